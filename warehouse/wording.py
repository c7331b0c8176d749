"""How numbers are told to people: one thing, several things. Imports nothing of ours."""

from __future__ import annotations


def counted(number: int, thing: str) -> str:
    """Return a number of things in words: ``1 input``, ``1,200 inputs``."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"
