"""Images on S3: what registering reads and costs, and what a cutout reads against the whole.

    python benchmarks/images.py [--images 2000] [--small 256] [--rounds 3]

The store is moto's server on this machine, a process of its own: bytes and requests are as anywhere, times without a
network. Images are registered once; a cutout of 10 arcsec from a full-size image, and the whole of it, are medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import measure
from measure import Said

from warehouse import Warehouse
from warehouse.images.cutout import cut
from warehouse.images.headers import read_all
from warehouse.images.pixels import read_image
from warehouse.images.ranged import Ranged
from warehouse.simulate.images import simulate_images

SKY = {"ra": 62.0, "dec": -37.0, "radius": 0.5, "objects": 20_000}
SIZE_ARCSEC = 10
SIDE_PX = 50
MIDDLE_PX = 2000.5  # between two pixels, so that an even number of them lies about it
SAMPLE = 100


def registering(server: Any, bucket: str, count: int, size: int) -> list[Said]:  # noqa: ANN401 - tests' S3Server
    """Register `count` images: copies of a few, under other visits, so that the store and not the simulation works."""
    settings = server.settings()
    client = server.client()
    with tempfile.TemporaryDirectory() as folder:
        paths = simulate_images(
            folder, **SKY, visits=6, detectors=9, dataset_types=["calexp"], size=(size, size), settings=settings
        )
        contents = [(path, Path(folder, path).read_bytes()) for path in paths]
    for number in range(count):
        path, content = contents[number % len(contents)]
        visit = path.split("/")[-2]
        key = path.replace(visit, str(300_000 + number // len(contents)) + visit[-3:])
        client.put_object(Bucket=bucket, Key=f"tree/{key}", Body=content)
    wh = Warehouse.create(f"s3://{bucket}/warehouse", settings=settings)
    report, seconds = timed(partial(wh.register_images, f"s3://{bucket}/tree"))
    again, seconds_again = timed(partial(wh.register_images, f"s3://{bucket}/tree"))
    assert report.new == count
    assert again.nothing_new
    found = wh.images().select("uri", "size_bytes").collect()
    assert found.height == count
    headers = list(read_all(found.head(SAMPLE).rows(), settings))
    requests = sum(header.reads for header in headers) / len(headers)
    return [
        told("register", count, seconds, requests, report.bytes_read),
        told("register again, nothing new", count, seconds_again, 0, again.bytes_read),
    ]


def cutting(server: Any, bucket: str, rounds: int) -> list[Said]:  # noqa: ANN401 - tests' S3Server
    """Cut 10 arcsec out of full-size images, and read the whole of them."""
    settings = server.settings()
    rows = []
    for compression in ("GZIP_2", "RICE_1"):
        with tempfile.TemporaryDirectory() as folder:
            [path] = simulate_images(
                folder,
                **SKY,
                visits=1,
                detectors=1,
                dataset_types=["calexp"],
                size=None,
                compression=compression,
                settings=settings,
            )
            content = Path(folder, path).read_bytes()
        uri = f"s3://{bucket}/{compression}.fits"
        server.client().put_object(Bucket=bucket, Key=f"{compression}.fits", Body=content)
        whole = read_image(uri, settings)
        ra, dec = (float(value) for value in whole.wcs.all_pix2world(MIDDLE_PX, MIDDLE_PX, 0))
        files = [Ranged(uri, settings) for _ in range(rounds)]
        pieces = [timed(partial(cut, uri, ra, dec, SIZE_ARCSEC, settings, file=file)) for file in files]
        corner = round(MIDDLE_PX - (SIDE_PX - 1) / 2)
        assert (pieces[0][0].data == whole.data[corner : corner + SIDE_PX, corner : corner + SIDE_PX]).all()
        seconds = statistics.median(taken for _, taken in pieces)
        whole_seconds = statistics.median(timed(partial(read_image, uri, settings))[1] for _ in range(rounds))
        shape = "x".join(str(side) for side in whole.shape)
        rows += [
            told(f"cut 10 arcsec out of {shape}, {compression}", 1, seconds, files[0].reads, files[0].bytes_read),
            told(f"read {shape} whole, {compression}", 1, whole_seconds, None, len(content)),
        ]
    return rows


def told(work: str, images: int, seconds: float, requests: float | None, bytes_read: int) -> Said:
    """Return a row: what was done with how many images, and what each took."""
    return {
        "work": work,
        "images": images,
        "seconds": measure.rounded(seconds),
        "images_a_second": measure.rounded(images / seconds),
        "requests_an_image": None if requests is None else round(requests, 2),
        "kb_an_image": measure.rounded(bytes_read / images / 1e3),
    }


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what `work` returns, and the seconds that it takes."""
    started = time.perf_counter()
    done = work()
    return done, time.perf_counter() - started


def main(arguments: Sequence[str] = ()) -> list[Said]:
    """Return a row a piece of work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--small", type=int, default=256, help="side of the images that are registered, pixels")
    parser.add_argument("--rounds", type=int, default=3, help="of cutouts and whole images")
    chosen = parser.parse_args(list(arguments))
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    from support.s3 import moto_server

    with tempfile.TemporaryDirectory() as folder, moto_server(Path(folder)) as server:
        bucket = server.make_bucket()
        return [
            *registering(server, bucket, chosen.images, chosen.small),
            *cutting(server, bucket, chosen.rounds),
        ]


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:]), indent=1))
