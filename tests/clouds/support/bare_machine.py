"""Bare machines: a root folder of Debian with what cloud images have (Python, curl, certificates) and nothing else.

Their startup script has little to rely on: no HOME and no locale, as cloud-init runs it, and a strict umask.

A folder is made once per suite by debootstrap and kept in ``.cache``; a machine is a copy of it, entered by chroot.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

__all__ = ["DISK", "TEMPLATE", "bare_command", "debian_root", "missing_for_roots"]

TEMPLATE = "CLOUD_FAKE_ROOT"
"""Variable of a fake cloud: the root folder of its instances; without it they share that of this machine."""
DISK = "CLOUD_FAKE_DISK"
"""Variable of a fake cloud: the size of its bare machines' disk below ``/opt``, such as ``16m``."""
_CACHE = Path(__file__).parents[3] / ".cache" / "debian"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OF_THIS_MACHINE = ("PATH", "HOME", "LANG", "PYTHONPATH", "CLOUD_TASKS_BOOT_ROOT")
_NETWORK = ("etc/resolv.conf", "etc/hosts", "etc/ssl/certs/ca-certificates.crt")
"""Files by which a machine reaches the package index as this one does."""


def missing_for_roots() -> str:
    """Return what this machine lacks to make and enter a root folder; empty for nothing."""
    if os.geteuid() != 0:
        return "chroot needs root"
    return "" if shutil.which("debootstrap") else "debootstrap is not installed: apt-get install debootstrap"


def debian_root(suite: str) -> Path:
    """Return the root folder of a suite; skip the test where it cannot be made (on CI: fail)."""
    if missing := missing_for_roots():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    root = _CACHE / suite
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / f"{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            draft = _CACHE / f"{suite}.part"
            shutil.rmtree(draft, ignore_errors=True)
            packages = "--include=python3,curl,ca-certificates"
            done = subprocess.run(
                ["debootstrap", "--variant=minbase", packages, suite, str(draft)],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr
            for name in _NETWORK:
                (draft / name).unlink(missing_ok=True)
                shutil.copy(Path("/") / name, draft / name)
            draft.rename(root)
    return root


def bare_command(
    template: Path, folder: Path, program: Path, variables: Mapping[str, str], commands: Path
) -> tuple[Sequence[str], dict[str, str]]:
    """Make a machine below a folder; return the command that runs a program on it, and its environment.

    Args:
        folder: Folder of the machine, which has no ``root`` yet; ``root/console.log`` is its console.
        commands: Folder with programs that the machine gets, such as ``shutdown``.
    """
    root = folder / "root"
    # Hard links: what a start creates is new, and nothing of the system is changed in place.
    subprocess.run(["cp", "-al", f"{template}/.", str(root)], check=True)
    for each in commands.iterdir():
        _copy(each, root / "usr/local/sbin" / each.name)
    (root / "dev/console").unlink(missing_ok=True)
    (root / "dev/console").symlink_to("/console.log")
    (root / "console.log").unlink(missing_ok=True)
    (root / "console.log").touch()
    _copy(program, root / "startup-script")
    identity = root / "var/lib/cloud/data/instance-id"
    identity.parent.mkdir(parents=True, exist_ok=True)
    identity.unlink(missing_ok=True)
    identity.write_text(f"{folder.name}\n")
    disk = f'mount -t tmpfs -o size={os.environ[DISK]} tmpfs "$1/opt" && ' if DISK in os.environ else ""
    mounts = 'mount -t proc proc "$1/proc" && mount -t tmpfs tmpfs "$1/run"'
    enter = f'umask 077 && {mounts} && {disk}exec chroot "$1" /startup-script'
    kept = {name: value for name, value in variables.items() if name not in _OF_THIS_MACHINE}
    return ["unshare", "--mount", "sh", "-c", enter, "sh", str(root)], {**kept, "PATH": _PATH}


def _copy(file: Path, target: Path) -> None:
    """Copy a file over one that may have another name, in the folder of an image."""
    target.unlink(missing_ok=True)
    shutil.copy(file, target)
