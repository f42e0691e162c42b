"""Cloud Storage emulator `gcp-storage-emulator`, started in a separate process on a loopback port.

Not emulated: permissions, preconditions, retention, real speed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cloud_servers import free_port, program_of, serving

__all__ = ["storage_emulator"]


@contextmanager
def storage_emulator(bucket: str) -> Iterator[str]:
    """Yield the address of an emulator with one empty bucket; skip the test without an installation."""
    program, port = program_of("gcp-storage-emulator", what="the Cloud Storage emulator"), free_port()
    options = ["--host=127.0.0.1", f"--port={port}", "--in-memory", f"--default-bucket={bucket}"]
    with serving("the storage emulator", [program, "start", *options], port=port):
        yield f"http://127.0.0.1:{port}"
