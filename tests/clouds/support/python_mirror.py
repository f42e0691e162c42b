"""A mirror of builds of Python for instances: one build, made of Debian 12's, that runs on older systems.

uv's own builds are on GitHub only. This one brings its own C library, and has the layout of theirs.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

from fake_server import Answer, FakeServer

__all__ = ["BUILD", "METADATA", "python_mirror"]

METADATA = "UV_PYTHON_DOWNLOADS_JSON_URL"
"""Variable of uv: the list of the mirror's builds. Without it, uv takes those builds only whose digests it knows."""
BUILD = "cpython-3.11.2-x86_64-unknown-linux-gnu-install_only.tar.gz"
_LOADER = "ld-linux-x86-64.so.2"
_START = f"""#!/bin/sh
home=$(dirname "$(dirname "$(readlink -f "$0")")")
exec "$home/system/{_LOADER}" --argv0 "$0" --library-path "$home/system" "$home/bin/python3.11.real" "$@"
"""
_PARTS = ("libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1", "libgcc_s.so.1", "libstdc++.so.6")
_LEFT_OUT = shutil.ignore_patterns("EXTERNALLY-MANAGED", "__pycache__", "test", "dist-packages")


def python_mirror(root: Path, folder: Path) -> FakeServer:
    """Return a server with the build and the list of builds at ``/list.json``.

    Args:
        root: Root folder of Debian 12 with Python.
        folder: Folder for the build, created.
    """
    build = _make_build(root, folder / "python")
    server = FakeServer()
    entry = {
        "name": "cpython",
        "arch": {"family": "x86_64", "variant": None},
        "os": "linux",
        "libc": "gnu",
        "major": 3,
        "minor": 11,
        "patch": 2,
        "prerelease": "",
        "url": f"{server.url}/{BUILD}",
        "sha256": None,
        "variant": None,
        "build": "1",
    }
    server.route(
        "GET", "/list.json", lambda request: Answer(body=json.dumps({"cpython-3.11.2-linux-x86_64-gnu": entry}))
    )
    server.route("GET", f"/{BUILD}", lambda request: Answer(body=build))
    return server


def _make_build(root: Path, target: Path) -> bytes:
    (target / "bin").mkdir(parents=True)
    (target / "system").mkdir()
    program = root / "usr/bin/python3.11"
    shutil.copytree(root / "usr/lib/python3.11", target / "lib/python3.11", ignore=_LEFT_OUT, symlinks=False)
    shutil.copy(program, target / "bin/python3.11.real")
    (target / "bin/python3.11").write_text(_START)
    (target / "bin/python3.11").chmod(0o755)
    for name in ("python3", "python"):
        (target / "bin" / name).symlink_to("python3.11")
    modules = (root / "usr/lib/python3.11/lib-dynload").glob("*.so")
    needed = _libraries(root, [program, *modules])
    # Parts of the C library that compiled packages name, and Python does not.
    needed += [root / "lib/x86_64-linux-gnu" / name for name in _PARTS]
    for library in needed:
        shutil.copy(library, target / "system" / library.name)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as archive:
        archive.add(target, "python")
    return out.getvalue()


def _libraries(root: Path, programs: list[Path]) -> list[Path]:
    """Return the libraries that programs need, and the program that loads them."""
    inside = [f"/{each.relative_to(root)}" for each in programs]
    done = subprocess.run(["chroot", str(root), "ldd", *inside], capture_output=True, text=True, check=False)
    found = {
        word for line in done.stdout.splitlines() for word in line.split() if word.startswith("/") and ".so" in word
    }
    return [root / each.rstrip(":").lstrip("/") for each in sorted(found) if not each.endswith(":")]
