"""What a table is: the published schema of a release and our own short release file, as frozen contracts.

    from warehouse.contracts import load

    load("dp02").contract("Object").arrow_schema

`contract` holds the records, `published` reads what the releases publish, `release` completes it. Knows no file
format, no storage and no sky.
"""

from warehouse.contracts.contract import Column, Contract, DatasetType, ForeignKey, Packed, SetAside
from warehouse.contracts.release import Release, load

__all__ = ["Column", "Contract", "DatasetType", "ForeignKey", "Packed", "Release", "SetAside", "load"]
