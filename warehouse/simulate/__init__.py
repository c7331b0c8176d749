"""The simulated sky: a deterministic, self-consistent Butler-like tree, and ways to break one on purpose."""

from warehouse.simulate.files import DATASET_TYPES
from warehouse.simulate.simulation import RUN, TRUTH_RUN, SimulationReport, simulate

__all__ = ["DATASET_TYPES", "RUN", "TRUTH_RUN", "SimulationReport", "simulate"]
