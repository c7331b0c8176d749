"""The commands of `tractlake`, a module for each thing that one does with a warehouse: fill, look into, keep it."""
