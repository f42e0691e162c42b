"""Every change of the database: loading tasks, applying events, instances, counters."""
