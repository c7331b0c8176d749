"""tractlake's library: a columnar warehouse for survey catalogues. It never imports Prefect."""

import numpy as np
import polars as pl

from warehouse.api import Warehouse
from warehouse.sky.regions import Box, Cone, Polygon

__all__ = ["Box", "Cone", "Polygon", "Warehouse"]

# Polars (2.1) takes up numpy when it first meets an array, and fails where two threads do so at once.
pl.Series(np.empty(0))
