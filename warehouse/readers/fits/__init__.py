"""FITS tables in: `FitsReader` is what `warehouse.readers` registers; `FitsInput` is what it opens.

The rooms: `ranges` (bytes), `headers` (HDUs), `fields` (what a header says of columns), `numbers` and `columns`
(what bytes become), `buffers` (where to), `table` (how it is read). Images are not read here.
"""

from warehouse.readers.fits.table import FitsInput, FitsReader

__all__ = ["FitsInput", "FitsReader"]
