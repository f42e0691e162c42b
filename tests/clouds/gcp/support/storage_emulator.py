"""A stand-in for Cloud Storage: the emulator `gcp-storage-emulator` as a process of its own, on a port of loopback.

What it does not show: permissions, preconditions, retention, the speed of the real one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cloud_servers import free_port, program_of, serving

__all__ = ["storage_emulator"]


@contextmanager
def storage_emulator(bucket: str) -> Iterator[str]:
    """The address of a Cloud Storage with one empty bucket; skips where the emulator is not installed."""
    program, port = program_of("gcp-storage-emulator", what="the Cloud Storage emulator"), free_port()
    options = ["--host=127.0.0.1", f"--port={port}", "--in-memory", f"--default-bucket={bucket}"]
    with serving("the storage emulator", [program, "start", *options], port=port):
        yield f"http://127.0.0.1:{port}"
