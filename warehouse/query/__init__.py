"""The readers' side: scan, get, light curves, sky info, SQL, and the expressions that go with them."""

from warehouse.query.areas import Area, Patch, Tract

__all__ = ["Area", "Patch", "Tract"]
