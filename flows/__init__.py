"""When: Prefect flows and the `tractlake` command. No data frames, no input or output of their own."""

import os

# Prefect reports its use to its makers unless told not to, and looks here first; DO_NOT_TRACK=0 allows it.
os.environ.setdefault("DO_NOT_TRACK", "1")
