"""The user's code for the instances: the checked-out commit, or an archive of the working tree.

Invariants, each with a test:

1. An archive contains what git would track: no files ignored by .gitignore, nothing of ``.git``.
2. The same files give the same archive, byte for byte, so that it is uploaded once.
3. A file that most likely holds a secret is packed only if it was named.
4. No URL has credentials.

Files are listed by ``git ls-files`` and packed here: ``git archive`` takes commits only, applies ``export-ignore`` and
filters, and its bytes depend on the version of git.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

import attrs

from cloud_tasks.cli.scaffold.secret_files import secret_files
from cloud_tasks.errors import CloudTasksError, InputError
from cloud_tasks.escape import without_credentials

__all__ = ["Archive", "Checkout", "find_checkout", "pack", "upload"]

_SHOWN = 10
"""Names in the message about files that are not packed."""


@attrs.frozen(kw_only=True)
class Checkout:
    """State of a git working tree."""

    repository: str
    """URL of ``origin`` without credentials; empty without one."""
    commit: str
    folder: str
    """Path of the folder relative to the top of the repository."""
    changed: int
    """Number of files that differ from the commit."""
    is_pushed: bool
    """Whether a known remote branch contains the commit."""
    had_credentials: bool = False
    """Whether the URL of ``origin`` has credentials."""


@attrs.frozen(kw_only=True)
class Archive:
    """Archive of a working tree."""

    name: str
    """``code-<digest>.tar.gz``, by content."""
    content: bytes = attrs.field(repr=False)
    files: Sequence[str]
    """Paths relative to the folder."""


def find_checkout(folder: Path, *, besides: str | None = None) -> Checkout | None:
    """Return the checkout of a folder; None outside a git repository, or without a commit.

    Args:
        besides: File that may differ from the commit, relative to the folder.
    """
    commit = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD")
    if not commit:
        return None
    pathspec = [] if besides is None else ["--", ".", f":(exclude){besides}"]
    origin = _git(folder, "remote", "get-url", "origin") or ""
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no", *pathspec) or ""
    return Checkout(
        repository=without_credentials(origin),
        had_credentials=without_credentials(origin) != origin,
        commit=commit,
        folder=(_git(folder, "rev-parse", "--show-prefix") or "").rstrip("/") or ".",
        changed=len(changes.splitlines()),
        is_pushed=bool(_git(folder, "branch", "--remotes", "--contains", commit)),
    )


def _git(folder: Path, *arguments: str) -> str | None:
    """Return the output of git; None where it fails or is not installed."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def pack(folder: Path, *, without: Sequence[str] = (), secrets: Collection[str] = ()) -> Archive:
    """Return the working tree as an archive, without files ignored by .gitignore.

    Args:
        without: Other files to leave out, relative to the folder.
        secrets: Files to pack although their names or contents are those of a secret, relative to the folder.

    Raises:
        InputError: git is not installed, the folder has no files to pack, or a file most likely holds a secret.
    """
    names = [name for name in _files(folder) if name not in without]
    if not names:
        raise InputError("no files to pack", where=str(folder))
    refused = [name for name in secret_files(folder, names) if name not in secrets]
    if refused:
        shown, more = ", ".join(refused[:_SHOWN]), len(refused) - _SHOWN
        raise InputError(
            f"files that probably hold secrets: {shown}" + (f" and {more} more" if more > 0 else ""),
            where=str(folder),
            hint="add them to .gitignore, or ship each with --with-secret FILE",
        )
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in names:
            _add(archive, name, folder / name)
    digest = hashlib.sha256(raw.getvalue()).hexdigest()[:16]
    return Archive(name=f"code-{digest}.tar.gz", content=gzip.compress(raw.getvalue(), mtime=0), files=tuple(names))


def _add(archive: tarfile.TarFile, name: str, path: Path) -> None:
    """Add a file or symbolic link without owner and time; a hard link as a file."""
    info, content = tarfile.TarInfo(name), b""
    info.mode = 0o755 if path.lstat().st_mode & 0o100 else 0o644
    if path.is_symlink():
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(path)
    else:
        content = path.read_bytes()
        info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def _files(folder: Path) -> Sequence[str]:
    """Return the files of a folder that git would track, in a repository or not, sorted."""
    if _git(folder, "rev-parse", "--is-inside-work-tree") == "true":
        listed = _list(["git"], folder, "--cached", "--others")
    else:
        # A temporary repository elsewhere, so that nothing is written into the folder.
        with tempfile.TemporaryDirectory(prefix="cloud-tasks-git-") as scratch:
            _call(["git", "init", "--quiet", scratch], folder)
            listed = _list(["git", f"--git-dir={scratch}/.git", f"--work-tree={folder.absolute()}"], folder, "--others")
    names = {os.fsdecode(name) for name in listed.split(b"\0") if name}
    # git also lists files with an uncommitted removal, and nested repositories.
    return sorted(name for name in names if os.path.lexists(folder / name) and not _is_folder(folder / name))


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _list(git: Sequence[str], folder: Path, *which: str) -> bytes:
    return _call([*git, "ls-files", "-z", "--exclude-standard", *which], folder)


def _call(command: Sequence[str], folder: Path) -> bytes:
    try:
        return subprocess.run(command, cwd=folder, check=True, capture_output=True).stdout
    except FileNotFoundError as error:
        raise InputError("git is not installed", hint="install git to pack the code") from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode("utf-8", "replace").strip()
        raise CloudTasksError(
            f"{folder}: git cannot list the files: {reason}", hint="check it with git status"
        ) from error


def upload(archive: Archive, bucket: str) -> bool:
    """Upload an archive to a bucket or folder; return False where it exists already.

    Args:
        bucket: URL supported by fsspec, or a folder.

    Raises:
        InputError: The URL is invalid, or a package for its scheme is missing.
        CloudTasksError: The upload failed.
    """
    import fsspec

    try:
        system, place = fsspec.core.url_to_fs(f"{bucket.rstrip('/')}/{archive.name}")
        if system.exists(place):
            return False
        system.makedirs(os.path.dirname(place), exist_ok=True)
        with system.open(f"{place}.part", "wb") as out:
            out.write(archive.content)
        system.mv(f"{place}.part", place)
    except ImportError as error:
        raise InputError(f"a package for this URL is missing: {error}", where=bucket) from error
    except ValueError as error:
        raise InputError(f"invalid URL: {error}", where=bucket) from error
    except Exception as error:
        raise CloudTasksError(f"{bucket}: cannot upload the code: {type(error).__name__}: {error}") from error
    return True
