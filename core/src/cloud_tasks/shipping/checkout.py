"""What git knows about a folder: its files by the rules of .gitignore, and its commit."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from cloud_tasks.errors import CloudTasksError, InputError
from cloud_tasks.escape import without_credentials

__all__ = ["Checkout", "find_checkout", "tracked_files"]


_REPOSITORY_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY")


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
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, env=_environment(), capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _environment() -> Mapping[str, str]:
    """Return the environment without the variables by which a hook of git names its own repository."""
    return {name: value for name, value in os.environ.items() if name not in _REPOSITORY_VARIABLES}


def tracked_files(folder: Path) -> Sequence[str]:
    """Return the files of a folder that git would track, in a repository or not, sorted.

    They are listed by ``git ls-files``: ``git archive`` takes commits only, and applies ``export-ignore`` and filters.

    Raises:
        InputError: git is not installed.
        CloudTasksError: git cannot list the files.
    """
    if _git(folder, "rev-parse", "--is-inside-work-tree") == "true":
        listed = _list(["git"], folder, "--cached", "--others")
    else:
        # A temporary repository elsewhere, so that nothing is written into the folder.
        with tempfile.TemporaryDirectory(prefix="cloud-tasks-git-") as scratch:
            _call(["git", "init", "--quiet", scratch], folder)
            listed = _list(["git", f"--git-dir={scratch}/.git", f"--work-tree={folder.absolute()}"], folder, "--others")
    names = set()
    for name in {os.fsdecode(name) for name in listed.split(b"\0") if name}:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            if (path / ".git").exists():  # A submodule that is checked out, or another repository.
                names |= {os.path.join(name, each) for each in tracked_files(path)}
        elif os.path.lexists(path):  # git also lists files with an uncommitted removal.
            names.add(name)
    return sorted(names)


def _list(git: Sequence[str], folder: Path, *which: str) -> bytes:
    return _call([*git, "ls-files", "-z", "--exclude-standard", *which], folder)


def _call(command: Sequence[str], folder: Path) -> bytes:
    try:
        return subprocess.run(command, cwd=folder, env=_environment(), check=True, capture_output=True).stdout
    except FileNotFoundError as error:
        hint = "install git, or list the files to ship under `ship`"
        raise InputError("git is not installed", hint=hint) from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode("utf-8", "replace").strip()
        raise CloudTasksError(
            f"{folder}: git cannot list the files: {reason}", hint="check it with git status"
        ) from error
