"""The match, the materialised join and what is drawn from it."""
