"""The lock: exact versions and digests of everything that the machines install from package indexes.

uv resolves the requirements of the program together with those of the wheels that are shipped, for every platform and
for Python 3.11 and later, since the Python of a machine is known only there. What it cannot name by version and digest,
local projects and git repositories, is built here and shipped as wheels.

Invariants, each with a test:

1. Every line is an exact version, or an address, with digests; none names a distribution that is shipped as a wheel.
2. Worker and program have one resolution: no package is in it in two versions for one Python.
3. No address has credentials.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import distributions
from pathlib import Path

import attrs

from cloud_tasks.errors import InputError
from cloud_tasks.escape import without_credentials
from cloud_tasks.shipping.requirements import Requirements
from cloud_tasks.shipping.uv_call import UvError, call_uv
from cloud_tasks.shipping.wheels import CompiledError, Wheel, canonical_name, repack

__all__ = ["Lock", "make_lock"]

OLDEST_PYTHON = "3.11"
PYPI = "https://pypi.org/simple"
_NOT_ON_MACHINES = frozenset({"uv"})
"""Dependencies of the controller alone: the machines have uv already."""


@attrs.frozen(kw_only=True)
class Lock:
    """What the machines install besides the wheels of cloud-tasks."""

    worker: str
    """Requirements file of the worker: exact versions with digests."""
    program: str
    """Requirements file of what the program needs in addition."""
    wheels: tuple[Wheel, ...]
    """Wheels of local projects and of git repositories in the program's requirements."""


@attrs.define(kw_only=True)
class _Entry:
    """An entry of uv's output."""

    lines: list[str]
    parents: set[str] = attrs.field(factory=set)
    index: str = ""

    @property
    def spec(self) -> str:
        return self.lines[0].removesuffix(" \\")

    @property
    def name(self) -> str:
        """Name of the distribution; empty for a local path."""
        found = re.match(r"([A-Za-z0-9][\w.-]*)(\[[^]]*\])? ?(==|@)", self.spec)
        return canonical_name(found[1]) if found else ""

    @property
    def is_built_here(self) -> bool:
        return not self.name or " @ git+" in self.spec or " @ file:" in self.spec


def make_lock(
    requirements: Requirements | None, *, wheels: Sequence[tuple[Wheel, str]], pins: Sequence[str], folder: Path
) -> Lock:
    """Resolve the requirements of the program and of the wheels.

    Args:
        wheels: Wheels that are shipped, each with the extras to install: ``[files]``, or empty.
        pins: Distributions of the worker that are not shipped: ``name==version``.
        folder: Folder of uv's settings if there are no requirements.

    Raises:
        InputError: The requirements are invalid, or cannot be fulfilled.
    """
    with tempfile.TemporaryDirectory(prefix="cloud-tasks-lock-") as scratch:
        ours = Path(scratch) / "worker.in"
        lines = [f"{wheel.name}{extras} @ {_write(wheel, Path(scratch)).as_uri()}" for wheel, extras in wheels]
        ours.write_text("\n".join([*lines, *pins, ""]))
        answer = _compile(requirements, ours, requirements.folder if requirements else folder)
        entries = list(_entries(answer))
        shipped = {wheel.name for wheel, _ in wheels}
        worker = _worker_names(entries, shipped, str(ours))
        locked = [entry for entry in entries if entry.name not in shipped and not _is_left_out(entry, shipped)]
        built = tuple(_build(entry, requirements, Path(scratch)) for entry in locked if entry.is_built_here)
    locked = [entry for entry in locked if not entry.is_built_here]
    return Lock(
        worker=_file(entry for entry in locked if entry.name in worker),
        program=_file(entry for entry in locked if entry.name not in worker),
        wheels=built,
    )


def _write(wheel: Wheel, folder: Path) -> Path:
    path = folder / wheel.file_name
    path.write_bytes(wheel.content)
    return path


def _compile(requirements: Requirements | None, ours: Path, folder: Path) -> str:
    sources, stdin = [str(ours)], None
    if requirements is not None and requirements.file is None:
        sources, stdin = [*sources, "-"], "\n".join([*requirements.lines, ""])
    elif requirements is not None and requirements.file is not None:
        if requirements.file.name == "uv.lock":
            sources, stdin = [*sources, "-"], _exported(requirements)
        else:
            sources.append(str(requirements.file))
    try:
        return call_uv(
            "pip", "compile", "--quiet", "--universal", "--python-version", OLDEST_PYTHON, "--python", sys.executable,
            "--generate-hashes", "--no-header", "--emit-index-annotation", *sources, folder=folder, stdin=stdin,
        )  # fmt: skip
    except UvError as error:
        raise _refusal(error, requirements) from error


def _exported(requirements: Requirements) -> str:
    try:
        return call_uv("export", "--quiet", "--frozen", "--no-dev", "--no-header", folder=requirements.folder)
    except UvError as error:
        raise _refusal(error, requirements) from error


def _entries(text: str) -> Iterator[_Entry]:
    entry: _Entry | None = None
    for line in text.splitlines():
        content = line.strip()
        if line and not line.startswith((" ", "#")):
            if entry is not None:
                yield entry
            entry = _Entry(lines=[line])
        elif entry is not None and content.startswith("--hash"):
            entry.lines.append(line)
        elif entry is not None and content.startswith("# from "):
            entry.index = without_credentials(content.removeprefix("# from "))
        elif entry is not None and (parent := re.sub(r"^# *(via\b)? *", "", content)):
            entry.parents.add(parent)
    if entry is not None:
        yield entry


def _worker_names(entries: Sequence[_Entry], shipped: set[str], ours: str) -> set[str]:
    """Return the packages that the shipped wheels need, directly or not."""
    names = set(shipped)
    size = 0
    while len(names) > size:
        size = len(names)
        names |= {entry.name for entry in entries if entry.parents & names or f"-r {ours}" in entry.parents}
    return names


def _is_left_out(entry: _Entry, shipped: set[str]) -> bool:
    return entry.name in _NOT_ON_MACHINES and bool(entry.parents) and entry.parents <= shipped


def _file(entries: Iterator[_Entry]) -> str:
    kept = list(entries)
    indexes = sorted({entry.index for entry in kept if entry.index and entry.index.rstrip("/") != PYPI})
    options = [f"--extra-index-url {index}" for index in indexes]
    return "".join(f"{line}\n" for line in options + [line for entry in kept for line in entry.lines])


def _build(entry: _Entry, requirements: Requirements | None, scratch: Path) -> Wheel:
    """Build a local project or a git repository, and return its wheel."""
    source = re.sub(r"^-e ", "", entry.spec).partition(" ; ")[0]
    folder = requirements.folder if requirements else scratch
    with tempfile.TemporaryDirectory(dir=scratch) as target:
        try:
            call_uv(
                "pip", "install", "--quiet", "--no-deps", "--target", target, "--python", sys.executable, source,
                folder=folder,
            )  # fmt: skip
            (built,) = distributions(path=[target])
            return repack(built)
        except UvError as error:
            raise _refusal(error, requirements) from error
        except CompiledError as error:
            raise InputError(
                error.message, where=requirements.where if requirements else "", hint=error.hint
            ) from error


def _refusal(error: UvError, requirements: Requirements | None) -> InputError:
    reason = (error.causes or (error.summary,))[-1]
    missing = re.search(r"there is no version of (\S+)", reason) or re.search(
        r"not found in the package registry.* you require ([^\s,]+)", reason
    )
    if missing:
        reason = f"no matching distribution for {missing[1]}"
    return InputError(f"requirements: {reason}", where=requirements.where if requirements else "")
