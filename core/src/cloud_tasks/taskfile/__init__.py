"""Task files: opening them, streaming a JSON list, validating an entry.

Uses the standard library only (fsspec for URLs), so that a worker with a local task file starts fast.
"""
