"""Where attempts come from: the task queue or a local file; leases and their extension."""
