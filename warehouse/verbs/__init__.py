"""Verbs of `Warehouse` by what they are about, each as thin as the door itself; the door is in `warehouse.api`."""
