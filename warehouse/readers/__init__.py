"""Files in: one module a format, behind the one-method protocol of `warehouse.readers.reader`.

A format is registered by one line in `formats`; which files there are is told by `tree` for folders and buckets, and
by `butler` for Butler repositories. What a file's rows mean is the business of the contracts.
"""

from warehouse.readers.formats import reader_for
from warehouse.readers.reader import Input, OpenedInput, Reader
from warehouse.readers.tree import Listing, list_inputs, refuse_absent

__all__ = ["Input", "Listing", "OpenedInput", "Reader", "list_inputs", "reader_for", "refuse_absent"]
