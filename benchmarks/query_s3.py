"""A read-only S3 server over a folder, its sub-folders being the buckets; it counts the bytes that it sends.

    python benchmarks/query_s3.py FOLDER PORT

It knows GET with a range, HEAD and ListObjectsV2, and asks for no credentials. moto would read a whole object for each
part that is asked of it, and rclone answers a range that is the whole object in a way that object_store refuses.
"""

from __future__ import annotations

import os
import re
import sys
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

SENT = "/-sent"


class Server(ThreadingHTTPServer):
    """Remembers what it serves and how much it has sent."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.folder, self.sent, self.lock = folder, 0, Lock()


class Handler(BaseHTTPRequestHandler):
    """Answers one connection's requests."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path, query = unquote(url.path), {name: values[0] for name, values in parse_qs(url.query).items()}
        target = self.server.folder / path.strip("/")
        if path == SENT:
            self._say(200, str(self.server.sent).encode())
        elif path.strip("/").count("/") == 0:
            self._say(200, listing(target, query.get("prefix", ""), query.get("delimiter", "")))
        elif target.is_file():
            self._send(target)
        else:
            self._say(404, b"<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>")

    do_HEAD = do_GET  # noqa: N815 - the base class's name

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _say(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _send(self, target: Path) -> None:
        with target.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
            first, end = span(asked, size) if asked else (0, size)
            self.send_response(206 if asked else 200)
            if asked:
                self.send_header("Content-Range", f"bytes {first}-{end - 1}/{size}")
            self.send_header("Content-Length", str(end - first))
            self.send_header("ETag", f'"{size:x}"')
            self.send_header("Last-Modified", formatdate(os.fstat(file.fileno()).st_mtime, usegmt=True))
            self.send_header("Accept-Ranges", "bytes")
            self.end_headers()
            if self.command == "GET":
                self._copy(file, first, end)

    def _copy(self, file: BinaryIO, first: int, end: int) -> None:
        self.wfile.flush()
        with self.server.lock:
            self.server.sent += end - first
        while first < end:
            done = os.sendfile(self.connection.fileno(), file.fileno(), first, end - first)
            if not done:
                return
            first += done


def span(asked: re.Match[str], size: int) -> tuple[int, int]:
    """Return first byte and end of a range."""
    first, last = asked.groups()
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1 if last else size)


def listing(bucket: Path, prefix: str, delimiter: str) -> bytes:
    """Return all keys that begin with `prefix`, however many."""
    above = bucket / prefix.rpartition("/")[0]
    keys = sorted(str(path.relative_to(bucket)) for path in above.rglob("*") if path.is_file())
    files, folders = [], dict[str, None]()
    for key in (key for key in keys if key.startswith(prefix)):
        head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
        if found:
            folders[prefix + head + delimiter] = None
        else:
            stat = (bucket / key).stat()
            files.append(
                f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                f"<ETag>&quot;{stat.st_size:x}&quot;</ETag><Size>{stat.st_size}</Size></Contents>"
            )
    common = "".join(f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in folders)
    return (
        f"<ListBucketResult><Name>{bucket.name}</Name><Prefix>{escape(prefix)}</Prefix>"
        f"<KeyCount>{len(files) + len(folders)}</KeyCount><IsTruncated>false</IsTruncated>"
        f"{''.join(files)}{common}</ListBucketResult>"
    ).encode()


if __name__ == "__main__":
    Server(Path(sys.argv[1]), int(sys.argv[2])).serve_forever()
