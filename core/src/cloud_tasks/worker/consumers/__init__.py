"""Consumers: attempts from the task queue or a local source, and the extension of their leases."""
