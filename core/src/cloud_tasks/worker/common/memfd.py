"""Anonymous files: in memory on Linux, an unlinked temporary file elsewhere."""

from __future__ import annotations

import os

__all__ = ["nameless_file"]


def nameless_file(name: str, *, in_memory: bool = True) -> int:
    """Open a file that is gone with its last descriptor; ``name`` shows in listings of a process's files."""
    if in_memory and hasattr(os, "memfd_create"):
        return os.memfd_create(name, os.MFD_CLOEXEC)
    if hasattr(os, "O_TMPFILE"):
        try:
            return os.open(os.environ.get("TMPDIR") or "/tmp", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError:
            # Not every file system has such files, and not every machine that folder.
            pass
    # This imports `random`, which from then on seeds itself in each forked process.
    import tempfile

    descriptor, path = tempfile.mkstemp(prefix=f"{name}-")
    os.unlink(path)
    return descriptor
