"""Writes to the database: loading tasks, applying events, instances, counters."""
