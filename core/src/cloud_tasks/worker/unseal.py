"""Put the secrets of a job where its tasks find them: ``python -m cloud_tasks.worker.unseal SEALED LINK``.

The startup script of a shipped program runs it. The key is the standard input, in hexadecimal, since arguments and
variables of a process can be seen. It prints the folder that it makes, or what is wrong.

Invariants, each with a test:

1. The folder is new, has a random name and is accessible to this user only; it is in memory where the system has it.
2. The folder of an earlier start, which LINK leads to, is deleted first.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import sys
import tempfile
from contextlib import suppress
from typing import Any

from cloud_tasks.sealing import unseal

__all__ = ["unpack"]

_FOLDERS = ("/run", "/dev/shm")
_IN_MEMORY = ("tmpfs", "ramfs")


def unpack(sealed: str, link: str, key: bytes) -> str:
    """Return the new folder, with the folder ``tasks`` and the file ``worker.json`` for the supervisor.

    Args:
        sealed: File with what `cloud_tasks.sealing.seal` made of the secrets.
        link: Path of a link to the folder, beside which it is made where the system has no memory for files.

    Raises:
        ValueError: The file was sealed with another key.
        OSError: The files cannot be written.
    """
    with suppress(OSError):
        shutil.rmtree(os.readlink(link))
    with open(sealed, "rb") as file:
        content: dict[str, Any] = json.loads(unseal(file.read(), key))
    with suppress(FileNotFoundError):
        os.unlink(link)
    folder = _new_folder(os.path.dirname(link))
    try:
        os.symlink(folder, link)
        os.mkdir(os.path.join(folder, "tasks"), 0o700)
        _write(os.path.join(folder, "worker.json"), json.dumps(content["worker"]).encode())
        for name, text in content["files"].items():
            _write(os.path.join(folder, "tasks", name), base64.b64decode(text))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _new_folder(other: str) -> str:
    """Make a folder in memory, else in another folder."""
    with suppress(OSError), open("/proc/mounts") as file:
        mounts = {words[1] for line in file if (words := line.split())[2] in _IN_MEMORY}
        for parent in _FOLDERS:
            if parent in mounts:
                with suppress(OSError):
                    return tempfile.mkdtemp(prefix="cloud-tasks-secrets-", dir=parent)
    return tempfile.mkdtemp(prefix="secrets-", dir=other)


def _write(path: str, content: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(content)


def _main(sealed: str, link: str) -> int:
    try:
        text = unpack(sealed, link, bytes.fromhex(sys.stdin.read()))
    except (OSError, ValueError) as error:
        sys.stdout.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
