"""Headers of images, read as Prefect tasks of hundreds each: a task costs as many milliseconds as a header does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.retrying import DELAYS_SECONDS, RETRIES, transient
from warehouse.config import Settings
from warehouse.errors import InputError
from warehouse.images import registry
from warehouse.images.headers import ImageHeader
from warehouse.readers.reader import Input

IMAGES_A_TASK = 500


@task(
    name="headers",
    retries=RETRIES,
    retry_delay_seconds=DELAYS_SECONDS,
    retry_condition_fn=transient,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def headers(inputs: Sequence[Input], settings: Settings) -> list[ImageHeader | InputError]:
    """Read the headers of some images, many at once; return what each says, or why it cannot be used."""
    return list(registry.read_headers(inputs, settings))


def read_headers(inputs: Sequence[Input], settings: Settings) -> Iterator[ImageHeader | InputError]:
    """Yield what the headers of images say, a task after the other (`warehouse.images.registry.ReadHeaders`)."""
    for start in range(0, len(inputs), IMAGES_A_TASK):
        part = inputs[start : start + IMAGES_A_TASK]
        named = headers.with_options(task_run_name=f"headers of images {start + 1} to {start + len(part)}")
        yield from named.submit(part, settings).result()
