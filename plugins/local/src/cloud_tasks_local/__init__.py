"""Local provider: a SQLite queue, instances that are process groups of this machine, flat prices."""
