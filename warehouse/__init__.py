"""tractlake's library: a columnar warehouse for survey catalogues. It never imports Prefect."""

from warehouse.api import Warehouse
from warehouse.sky.regions import Box, Cone, Polygon

__all__ = ["Box", "Cone", "Polygon", "Warehouse"]
