"""Random numbers that depend on what they are for, and on nothing else.

Every file, and every purpose within it, draws from a stream of its own, so that neither the number of workers nor
the choice of files to write changes a single value. Nothing but the naming of streams belongs here.
"""

from __future__ import annotations

import zlib

import numpy as np


def stream(seed: int, purpose: str, *place: int) -> np.random.Generator:
    """Return the random generator of `purpose` at `place`, the same one on every machine.

    Parameters
    ----------
    seed
        Of the simulated sky; not negative.
    purpose
        What the numbers are for, such as ``object columns``.
    place
        Where they are used: tract and patch, visit and detector; not negative.
    """
    words = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), *place])
    return np.random.Generator(np.random.SFC64(words))
