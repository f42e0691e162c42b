"""The archive of the user's code for the startup script that ``init`` writes.

Invariant, with a test: a file that most likely holds a secret is packed only if it was named.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

import attrs

from cloud_tasks import shipping
from cloud_tasks.errors import InputError

__all__ = ["Archive", "pack", "upload"]

_SHOWN = 10
"""Names in the message about files that are not packed."""


@attrs.frozen(kw_only=True)
class Archive:
    """Archive of a working tree."""

    name: str
    """``code-<digest>.tar.gz``, by content."""
    content: bytes = attrs.field(repr=False)
    files: Sequence[str]
    """Paths relative to the folder."""


def pack(folder: Path, *, without: Sequence[str] = (), secrets: Collection[str] = ()) -> Archive:
    """Return the working tree as an archive, without files ignored by .gitignore.

    Args:
        without: Other files to leave out, relative to the folder.
        secrets: Files to pack although their names or contents are those of a secret, relative to the folder.

    Raises:
        InputError: git is not installed, the folder has no files to pack, or a file most likely holds a secret.
    """
    files = shipping.select_files(folder, secrets=secrets)
    refused = [each.path for each in files.left_out if each.is_secret and each.path not in without]
    if refused:
        shown, more = ", ".join(refused[:_SHOWN]), len(refused) - _SHOWN
        raise InputError(
            f"files that probably hold secrets: {shown}" + (f" and {more} more" if more > 0 else ""),
            where=str(folder),
            hint="add them to .gitignore, or ship each with --with-secret FILE",
        )
    files = attrs.evolve(files, names=tuple(name for name in files.names if name not in without))
    if not files.names:
        raise InputError("no files to pack", where=str(folder))
    content = io.BytesIO()
    shipping.write_archive(files, content)
    digest = hashlib.sha256(content.getvalue()).hexdigest()[:16]
    return Archive(name=f"code-{digest}.tar.gz", content=content.getvalue(), files=files.names)


def upload(archive: Archive, bucket: str) -> bool:
    """Upload an archive to a bucket or folder; return False where it exists already."""
    with tempfile.TemporaryDirectory(prefix="cloud-tasks-ship-") as folder:
        path = Path(folder) / archive.name
        path.write_bytes(archive.content)
        digest = hashlib.sha256(archive.content).hexdigest()
        piece = shipping.Piece(name=archive.name, sha256=digest, size=len(archive.content), path=path)
        return bool(shipping.upload([piece], bucket))
