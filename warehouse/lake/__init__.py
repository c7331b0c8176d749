"""Tables at rest: Delta tables, ledger, pins, upkeep and audit."""
