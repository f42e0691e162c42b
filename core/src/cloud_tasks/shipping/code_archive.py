"""The user's code for the instances: which files of a folder are shipped, and their archive.

Invariants, each with a test:

1. Without ``ship`` patterns, the files are those that git would track: none that .gitignore excludes.
2. Whatever the patterns, no version control folder, secret, job database, virtual environment or link out of the
   folder is shipped; what is left out is returned with the reason.
3. The same files give the same archive, byte for byte, so that it is uploaded once.
4. A file that changes or vanishes meanwhile is packed as it is read, or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import operator
import os
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import attrs

from cloud_tasks.errors import InputError
from cloud_tasks.shipping.archive import add_file, add_link, new_archive
from cloud_tasks.shipping.checkout import tracked_files
from cloud_tasks.shipping.secret_files import secret_files
from cloud_tasks.store import is_job_database

__all__ = ["CodeFiles", "LeftOut", "select_files", "write_archive"]

SIZE_LIMIT = 500 * 1000**2
"""Bytes of all files together."""
_SHOWN = 5
"""Names in the message about large files."""
_HIDDEN_FOLDERS = frozenset({".git", ".hg", ".svn", ".cloud-tasks", "__pycache__"})
"""Folders that are never shipped, and not listed as left out: every user expects it."""
_READ_AHEAD = 8 * 1024**2
"""Bytes of a file that are held in memory while it is packed."""


@attrs.frozen(kw_only=True)
class LeftOut:
    """A file or folder that is not shipped."""

    path: str
    """Path relative to the folder."""
    reason: str
    """Why it is not shipped."""
    is_secret: bool = False
    """Whether it looks like a secret."""


@attrs.frozen(kw_only=True)
class CodeFiles:
    """The files of a folder to ship."""

    folder: Path
    names: tuple[str, ...]
    """Paths relative to the folder, sorted."""
    size: int
    """Bytes of all files together, not compressed."""
    left_out: tuple[LeftOut, ...]


def select_files(
    folder: Path,
    *,
    ship: Sequence[str] = (),
    secrets: Collection[str] = (),
    private: Collection[Path] = (),
    limit: int = SIZE_LIMIT,
) -> CodeFiles:
    """Return the files of a folder to ship.

    Args:
        ship: Files, folders and patterns such as ``data/*.csv``, relative to the folder; all that they match is
            shipped, also what git ignores. Empty: what git would track.
        secrets: Files to ship although they look like a secret, relative to the folder.
        private: Files that are never shipped: those with secrets of the job.
        limit: Bytes of all files together.

    Raises:
        InputError: A pattern matches nothing or leads out of the folder, git is not installed, or the files are too
            large together.
    """
    folder_rule = functools.cache(functools.partial(_left_out_folder, folder))
    names, left_out = set(), set()
    for name in _matching(folder, ship) if ship else tracked_files(folder):
        parents = [str(parent) for parent in PurePosixPath(name).parents][-2::-1]
        found = next(filter(None, map(folder_rule, parents)), None) or _left_out_file(folder, name)
        if found is None:
            names.add(name)
        elif found.reason:
            left_out.add(found)
    suspected = [name for name in secret_files(folder, names) if name not in secrets]
    left_out |= {LeftOut(path=name, reason="looks like a secret", is_secret=True) for name in suspected}
    names -= set(suspected)
    own = {os.path.realpath(path) for path in private}
    own_names = {name for name in names if os.path.realpath(folder / name) in own} if own else set()
    left_out |= {LeftOut(path=name, reason="a secret of the job", is_secret=True) for name in own_names}
    names -= own_names
    return CodeFiles(
        folder=folder,
        names=tuple(sorted(names)),
        size=_checked_size(folder, names, limit),
        left_out=tuple(sorted(left_out, key=operator.attrgetter("path"))),
    )


def _matching(folder: Path, patterns: Iterable[str]) -> Sequence[str]:
    """Return the files that patterns match, sorted."""
    found: set[str] = set()
    for pattern in patterns:
        parts = PurePosixPath(pattern).parts
        if pattern.startswith("/") or ".." in parts:
            raise InputError(f"ship: {pattern} is not in {folder}", hint="give paths relative to this folder")
        # The path itself first: its name may have characters of a pattern.
        exact = folder / pattern
        matches = [exact] if os.path.lexists(exact) else list(folder.glob(pattern)) if parts else []
        if not matches:
            raise InputError(f"ship: no file matches {pattern} in {folder}", hint="correct the pattern")
        try:
            for path in matches:
                found.update(os.path.relpath(each, folder) for each in _files_below(path))
        except OSError as error:
            hint = "make it readable, or list the files to ship one by one"
            raise InputError(
                f"cannot list the files to ship: {error.strerror}", where=error.filename, hint=hint
            ) from error
    return sorted(found)


def _files_below(path: Path) -> Iterator[Path]:
    """Yield a file itself, or all files below a folder; of a virtual environment one, to be left out as a whole."""
    if path.is_symlink() or not path.is_dir():
        yield path
        return
    if path.name in _HIDDEN_FOLDERS:
        return
    if _is_environment(path):
        yield path / "bin"
        return
    entries = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        entries = sorted(path.iterdir())
    for entry in entries:
        yield from _files_below(entry)


def _is_environment(folder: Path) -> bool:
    return (folder / "pyvenv.cfg").exists() or (folder / "conda-meta").is_dir()


def _left_out_folder(folder: Path, name: str) -> LeftOut | None:
    """Return why no file of a folder is shipped, without a reason if that is not worth listing; None if files are."""
    path = folder / name
    if path.name in _HIDDEN_FOLDERS:
        return LeftOut(path=name, reason="")
    if path.is_symlink():
        return LeftOut(path=name, reason="link to a folder; list the folder itself")
    if _is_environment(path):
        return LeftOut(path=name, reason="virtual environment; list its packages in the requirements")
    return None


def _left_out_file(folder: Path, name: str) -> LeftOut | None:
    """Return why a file is not shipped, without a reason if that is not worth listing; None if it is."""
    path = folder / name
    try:
        mode = path.lstat().st_mode
    except OSError:
        return LeftOut(path=name, reason="")
    if path.name in _HIDDEN_FOLDERS or path.suffix == ".pyc":
        reason: str | None = ""
    elif stat.S_ISLNK(mode):
        reason = None if _is_inside(folder, path) else "link to a place outside of the folder"
    elif not stat.S_ISREG(mode):
        reason = "not a regular file"
    else:
        reason = "job database" if _is_of_a_database(path) else None
    return None if reason is None else LeftOut(path=name, reason=reason)


def _is_inside(folder: Path, path: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _is_of_a_database(path: Path) -> bool:
    """Return whether a file is a job database or one of the files beside it."""
    if is_job_database(path):
        return True
    for suffix in ("-wal", "-shm", "-journal", ".lock"):
        if path.name.endswith(suffix):
            return is_job_database(path.with_name(path.name.removesuffix(suffix)))
    return False


def _checked_size(folder: Path, names: Iterable[str], limit: int) -> int:
    sizes = {name: _size(folder / name) for name in names}
    if (total := sum(sizes.values())) <= limit:
        return total
    largest = sorted(sizes, key=lambda name: (-sizes[name], name))[:_SHOWN]
    raise InputError(
        f"{_megabytes(total)} of files to ship, more than {_megabytes(limit)}; the largest: "
        + ", ".join(f"{name} ({_megabytes(sizes[name])})" for name in largest),
        where=str(folder),
        hint="add large files to .gitignore, or list the files to ship under `ship`; keep data in a bucket",
    )


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.lstat().st_size
    return 0


def _megabytes(size: int) -> str:
    return f"{size / 1000**2:,.1f} MB"


def write_archive(files: CodeFiles, out: BinaryIO) -> None:
    """Write the files as a ``.tar.gz``.

    Raises:
        InputError: A file cannot be read.
    """
    with new_archive(out) as archive:
        for name in files.names:
            _add(archive, files.folder, name)


def _add(archive: tarfile.TarFile, folder: Path, name: str) -> None:
    """Add a file or symbolic link without owner and time, a hard link as a file; nothing if it vanished."""
    path = folder / name
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if path.is_symlink():
                if _is_inside(folder, path):
                    add_link(archive, name, _link_target(path))
                return
            # Neither a link nor a pipe that took the name meanwhile is followed or waited for.
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(path, flags), "rb") as file, tempfile.SpooledTemporaryFile(_READ_AHEAD) as content:
                mode = os.fstat(file.fileno()).st_mode
                if stat.S_ISREG(mode):
                    shutil.copyfileobj(file, content)
                    add_file(archive, name, content, is_program=bool(mode & 0o100))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        if error.errno not in (errno.ELOOP, errno.ENXIO):  # A link or a socket took the name.
            hint = "make it readable, or add it to .gitignore"
            raise InputError(f"cannot read the file to ship: {error.strerror}", where=str(path), hint=hint) from error


def _link_target(path: Path) -> str:
    """Return where a link leads, relative to its own folder."""
    target = os.readlink(path)
    return os.path.relpath(os.path.realpath(path), os.path.realpath(path.parent)) if os.path.isabs(target) else target
