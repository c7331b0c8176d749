"""Element-wise work over long arrays in blocks that stay in the processor's cache.

Whole-array numpy spends its time moving temporaries through memory; a block's temporaries never leave the cache.
Only the cutting and joining belongs here, no geometry. Imports nothing of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Kernel = Callable[..., tuple[Array, ...]]

BLOCK = 65_536
"""Rows a block: its temporaries stay in cache, and threads do not spend their time passing the interpreter's lock."""


def in_blocks(
    kernel: Kernel, arrays: Sequence[npt.ArrayLike], outputs: Sequence[npt.DTypeLike], threads: int = 1
) -> tuple[Array, ...]:
    """Return what `kernel` makes of `arrays`, computed block by block.

    Parameters
    ----------
    kernel
        Takes one block of each array and returns one block an output; it must be element-wise. One number of a
        tract or patch for all rows is passed as such, zero-dimensional, and spares the kernel its look-ups.
    arrays
        Broadcast against each other.
    outputs
        The outputs' dtypes.
    threads
        Threads to share the blocks out to; numpy lets go of the interpreter's lock.

    Returns
    -------
    tuple of ndarray
        One an output, in the broadcast shape.
    """
    given = [np.asarray(array) for array in arrays]
    shape = np.broadcast_shapes(*(array.shape for array in given))
    whole = [array.ndim == 0 and array.dtype.kind == "i" for array in given]
    flat = [a if keep else np.broadcast_to(a, shape).reshape(-1) for a, keep in zip(given, whole, strict=True)]
    size = int(np.prod(shape, dtype=np.int64))
    results = tuple(np.empty(size, dtype) for dtype in outputs)

    def work(start: int, stop: int) -> None:
        for begin in range(start, stop, BLOCK):
            part = slice(begin, min(begin + BLOCK, stop))
            made = kernel(*(a if keep else a[part] for a, keep in zip(flat, whole, strict=True)))
            for result, block in zip(results, made, strict=True):
                result[part] = block

    if size > BLOCK:
        # glibc hands freed memory back to the kernel at once, temporaries of our size included, and fetching it again
        # costs as much as the arithmetic - until a larger array has come and gone: then it keeps that much.
        np.empty(16 * BLOCK)
    share = max(BLOCK, -(-size // max(threads, 1)))
    starts = range(0, size, share)
    if len(starts) > 1:
        with ThreadPoolExecutor(len(starts)) as pool:
            for _ in pool.map(lambda start: work(start, min(start + share, size)), starts):
                pass
    else:
        work(0, size)
    return tuple(result.reshape(shape) for result in results)
