"""Images on S3: what registering reads and costs, and what a cutout reads against the whole.

The store is moto's server on this machine, a process of its own: bytes are as anywhere, times without a network.

    python benchmarks/images.py [--images 2000] [--small 256]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from warehouse import Warehouse
from warehouse.images.cutout import cut
from warehouse.images.pixels import read_image
from warehouse.images.ranged import Ranged
from warehouse.simulate.images import simulate_images

SKY = {"ra": 62.0, "dec": -37.0, "radius": 0.5, "objects": 20_000}
A_NETWORK_S = 0.03  # a request's way to a store and back, where it is not on this machine


def registering(server: Any, bucket: str, count: int, size: int) -> dict[str, Any]:  # noqa: ANN401 - tests' S3Server
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
    started = time.perf_counter()
    report = wh.register_images(f"s3://{bucket}/tree")
    seconds = time.perf_counter() - started
    started = time.perf_counter()
    again = wh.register_images(f"s3://{bucket}/tree")
    unchanged_seconds = time.perf_counter() - started
    assert report.new == count
    assert again.nothing_new
    assert wh.tables().filter(table="Image").get_column("rows").item() == count
    return {
        "images": count,
        "bytes_an_image": report.bytes_read / count,
        "seconds": round(seconds, 2),
        "images_a_second": round(count / seconds, 1),
        "versions": dict(report.versions),
        "again_seconds": round(unchanged_seconds, 2),
    }


def cutting(server: Any, bucket: str) -> dict[str, Any]:  # noqa: ANN401 - tests' S3Server
    """Cut 10 arcsec out of full-size images, and read the whole of them."""
    settings = server.settings()
    found = {}
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
        server.client().put_object(Bucket=bucket, Key=f"{compression}.fits", Body=content)
        uri = f"s3://{bucket}/{compression}.fits"
        whole, whole_seconds = timed(lambda uri=uri: read_image(uri, settings))
        ra, dec = (float(value) for value in whole.wcs.all_pix2world(2000, 2000, 0))
        file = Ranged(uri, settings)
        piece, seconds = timed(lambda uri=uri, ra=ra, dec=dec, file=file: cut(uri, ra, dec, 10, settings, file=file))
        assert (piece.data == whole.data[1976:2026, 1976:2026]).all() or piece.shape == (50, 50)
        found[compression] = {
            "file_bytes": len(content),
            "cutout_bytes": file.bytes_read,
            "cutout_requests": file.reads,
            "cutout_seconds": round(seconds, 3),
            "whole_seconds": round(whole_seconds, 3),
            "bytes_ratio": round(len(content) / file.bytes_read, 1),
            "cutout_seconds_over_a_network": round(seconds + A_NETWORK_S * file.reads, 2),
        }
    return found


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    done = work()
    return done, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--small", type=int, default=256, help="side of the images that are registered, pixels")
    chosen = parser.parse_args()
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    from support.s3 import moto_server

    with tempfile.TemporaryDirectory() as folder, moto_server(Path(folder)) as server:
        bucket = server.make_bucket()
        report = {
            "python": sys.version.split()[0],
            "processors": os.cpu_count(),
            "registering": registering(server, bucket, chosen.images, chosen.small),
            "cutout_of_10_arcsec": cutting(server, bucket),
        }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
