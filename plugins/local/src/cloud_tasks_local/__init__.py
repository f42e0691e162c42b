"""The embedded default: a SQLite queue, instances that are process groups, flat prices."""
