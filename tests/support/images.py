"""Images for tests: small simulated trees, and single files that are odd in one way, written by astropy alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits

from warehouse.config import Settings
from warehouse.simulate.images import simulate_images

SKY = {"ra": 61.218, "dec": -37.0, "radius": 0.05, "objects": 500}
FEW = {"visits": 2, "detectors": 2, "patches": 2, "bands": "gi", "size": (128, 96)}


def make(folder: Path, **changes) -> list[Path]:
    """Write a tree of small images and return its files."""
    settings = Settings(memory=512 << 20, workers=2)
    return [folder / path for path in simulate_images(str(folder), settings=settings, **(SKY | FEW | changes))]


def wcs_cards(ra=62.0, dec=-37.0, *, centre=(0.0, 0.0), scale_arcsec=0.2) -> dict:
    """Return the cards of a tangent plane with north up about a position at a 0-based pixel."""
    scale = scale_arcsec / 3600
    return {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRVAL1": ra,
        "CRVAL2": dec,
        "CRPIX1": centre[0] + 1,
        "CRPIX2": centre[1] + 1,
        "CD1_1": -scale,
        "CD1_2": 0.0,
        "CD2_1": 0.0,
        "CD2_2": scale,
        "RADESYS": "ICRS",
    }


def write_single(path: Path, data: np.ndarray, cards: dict, *, primary: dict | None = None) -> Path:
    """Write a file whose HDU 1 is one image with these cards, and nothing after it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = fits.ImageHDU(data, fits.Header(cards))
    fits.HDUList([fits.PrimaryHDU(header=fits.Header(primary or {})), image]).writeto(path, overwrite=True)
    return path


def of(files: list[Path], dataset_type: str) -> list[Path]:
    """Return the files of one dataset type."""
    return [path for path in files if f"/{dataset_type}/" in str(path)]
