"""The lock: exact versions and digests of everything that the machines install from package indexes.

uv resolves the requirements of the program together with those of the wheels that are shipped, for every platform and
for every Python from the oldest one on, since the Python of a machine is known only there. What the machines cannot
fetch is built or fetched here and shipped as wheels: local projects, git repositories, packages of a folder or of an
index that wants credentials.

Invariants, each with a test:

1. Every entry is an exact version or an address, with digests; none names a distribution that is shipped as a wheel.
2. Worker and program have one resolution: no package is in it in two versions for one Python.
3. No address has credentials.
4. Digests that the user gave are kept: a package that has none of them is refused.
"""

from __future__ import annotations

import re
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

import attrs

from cloud_tasks.errors import InputError
from cloud_tasks.shipping.fetched_wheel import build_wheel, fetch_wheel
from cloud_tasks.shipping.locked_packages import (
    PYPI,
    LockedPackage,
    index_options,
    parse_lock,
    requirements_text,
    with_parents,
)
from cloud_tasks.shipping.requirements import Requirements
from cloud_tasks.shipping.uv_call import UvError, call_uv
from cloud_tasks.shipping.wheels import CompiledError, Wheel

__all__ = ["OLDEST_PYTHON", "Lock", "make_lock"]

OLDEST_PYTHON = (3, 11)
_NOT_ON_MACHINES = frozenset({"uv"})
"""Dependencies of the controller alone: the machines have uv before the environment."""
_ANSWER_SECONDS = 20.0


@attrs.frozen(kw_only=True)
class Lock:
    """What the machines install besides the wheels of cloud-tasks."""

    worker: str
    """Requirements file of the worker: exact versions with digests."""
    program: str
    """Requirements file of what the program needs in addition."""
    wheels: tuple[Wheel, ...]
    """Wheels of what the machines cannot fetch."""
    local_projects: tuple[Path, ...]
    """Folders of local projects among the wheels."""
    python: str
    """Versions of Python that it is for: ``>=3.11``."""


def make_lock(requirements: Requirements, *, wheels: Sequence[tuple[Wheel, str]], pins: Sequence[str]) -> Lock:
    """Resolve the requirements of the program and of the wheels.

    Args:
        wheels: Wheels that are shipped, each with the extras to install: ``[files]``, or empty.
        pins: Distributions of the worker that are not shipped: ``name==version``.

    Raises:
        InputError: The requirements are invalid, or cannot be fulfilled.
    """
    exported = _exported(requirements)
    with tempfile.TemporaryDirectory(prefix="cloud-tasks-lock-") as scratch:
        ours = Path(scratch) / "worker.in"
        lines = [f"{wheel.name}{extras} @ {_write(wheel, Path(scratch)).as_uri()}" for wheel, extras in wheels]
        ours.write_text("\n".join([*lines, *pins, ""]))
        python, answer = _compile(requirements, exported, ours)
    entries = list(parse_lock(answer))
    shipped = {wheel.name for wheel, _ in wheels}
    worker = with_parents(entries, shipped, f"-r {ours}")
    unused = {name for name in _NOT_ON_MACHINES if not _is_required(name, entries, requirements, exported, shipped)}
    locked = [entry for entry in entries if entry.name not in shipped | unused]
    locked = _with_given_hashes(locked, requirements, exported)
    names = {entry.index: entry.name for entry in locked}
    private = {index for index, name in names.items() if not _is_public(index, name)}
    fetched = [entry for entry in locked if entry.is_fetched_here_only or entry.index in private]
    rest = [entry for entry in locked if entry not in fetched]
    options = index_options(rest)
    return Lock(
        worker=requirements_text((entry for entry in rest if entry.name in worker), options),
        program=requirements_text((entry for entry in rest if entry.name not in worker), options),
        wheels=tuple(_fetch(entry, requirements) for entry in fetched),
        local_projects=tuple(path for entry in fetched if (path := _local_project(entry, requirements)) is not None),
        python=",".join(filter(None, [f">={python}", requirements.python])),
    )


def _write(wheel: Wheel, folder: Path) -> Path:
    path = folder / wheel.file_name
    path.write_bytes(wheel.content)
    return path


def _exported(requirements: Requirements) -> str:
    """Return the content of a ``uv.lock`` as a requirements file; empty for other requirements."""
    if requirements.file is None or requirements.file.name != "uv.lock":
        return ""
    try:
        return call_uv("export", "--frozen", "--no-dev", "--no-header", folder=requirements.folder)
    except UvError as error:
        raise _refusal(error, requirements) from error


def _compile(requirements: Requirements, exported: str, ours: Path) -> tuple[str, str]:
    """Return the oldest Python for which the requirements can be fulfilled, and their lock."""
    lines = ["."] if requirements.is_project() else requirements.lines
    sources, stdin = [str(ours)], exported or "\n".join([*lines, ""])
    if exported or lines:
        sources.append("-")
    elif requirements.file is not None:
        sources.append(str(requirements.file))
    least = [(3, int(minor)) for minor in re.findall(r"(?:>=|==|~=)\s*3\.(\d+)", requirements.python)]
    versions = sorted({max([OLDEST_PYTHON, *least]), max([sys.version_info[:2], *least])})
    for version in versions:
        python = ".".join(map(str, version))
        try:
            return python, call_uv(
                "pip", "compile", "--universal", "--python-version", python, "--python", sys.executable,
                "--generate-hashes", "--no-header", "--emit-index-annotation", *sources,
                folder=requirements.folder, stdin=stdin,
            )  # fmt: skip
        except UvError as error:
            if version == versions[-1] or not error.needs_newer_python:
                raise _refusal(error, requirements) from error
    raise AssertionError("there is a last version")


def _is_required(
    name: str, entries: Sequence[LockedPackage], requirements: Requirements, exported: str, shipped: set[str]
) -> bool:
    """Return whether anything but the wheels that are shipped requires a package. uv does not show it of its input."""
    pattern = re.compile(rf"^\s*{name}(?![\w.-])", re.MULTILINE)
    is_given = pattern.search("\n".join([exported, *requirements.lines])) is not None
    return is_given or any(entry.name == name and not entry.parents <= shipped for entry in entries)


def _with_given_hashes(
    entries: Sequence[LockedPackage], requirements: Requirements, exported: str
) -> list[LockedPackage]:
    """Return the entries with those digests only that the user gave, where there are any."""
    given: dict[str, set[str]] = {}
    texts = [text for file, text in requirements.texts() if file is None or file.suffix not in (".toml", ".lock")]
    for text in [exported, *texts]:
        for entry in parse_lock(text):
            given.setdefault(entry.release, set()).update(entry.hashes)
    result = []
    for entry in entries:
        wanted = given.get(entry.release) if entry.release else None
        # uv lists SHA-256 only. It does not compare others; the machines do.
        comparable = {digest for digest in wanted or () if digest.startswith("sha256:")}
        kept = tuple(digest for digest in entry.hashes if digest in comparable) if comparable else entry.hashes
        if wanted and not comparable:
            kept = tuple(sorted(wanted))
        if entry.hashes and not kept:
            raise InputError(
                f"no file of {entry.release} in the package index has a digest that is given",
                where=_where(requirements, entry.name),
            )
        result.append(attrs.evolve(entry, hashes=kept))
    return result


def _is_public(index: str, name: str) -> bool:
    """Return whether an index answers without credentials; also if it does not answer now."""
    if not index.startswith("http") or index.rstrip("/") == PYPI:
        return True
    try:
        with urllib.request.urlopen(f"{index.rstrip('/')}/{name}/", timeout=_ANSWER_SECONDS):
            return True
    except urllib.error.HTTPError as error:
        return error.code not in (401, 403)
    except (OSError, ValueError):
        return True


def _source(entry: LockedPackage) -> str:
    return re.sub(r"^-e ", "", entry.spec).partition(" ; ")[0]


def _local_project(entry: LockedPackage, requirements: Requirements) -> Path | None:
    """Return the folder of a local project; None for anything else."""
    address = re.search(r"(?:\A| @ )file:(?://)?(/.*)", _source(entry))
    path = Path(unquote(address[1])) if address else requirements.folder / _source(entry)
    return path.resolve() if (address or not entry.name) and path.is_dir() else None


def _fetch(entry: LockedPackage, requirements: Requirements) -> Wheel:
    """Return the wheel of a package that the machines cannot fetch, built here if needed."""
    lines = [*requirements.index_options(), " ".join([_source(entry), *(f"--hash={each}" for each in entry.hashes)])]
    try:
        project = _local_project(entry, requirements)
        return build_wheel(project) if project else fetch_wheel(lines, folder=requirements.folder)
    except UvError as error:
        raise _refusal(error, requirements) from error
    except CompiledError as error:
        reason = f"{error.message}, and the machines cannot fetch {_source(entry)}"
        hint = "put it into the image of the machines, or into a package index that they can reach"
        raise InputError(reason, where=_where(requirements, entry.name), hint=hint) from error


def _where(requirements: Requirements, *names: str) -> str:
    """Return file and line of the requirement of the first package that has one, or where they were given."""
    for name in names:
        pattern = re.compile(rf"[\s\"']*{'[-_.]+'.join(re.split('[-_.]+', name))}(?![\w.-])", re.IGNORECASE)
        for file, text in requirements.texts():
            if name and file is not None and file.suffix != ".lock":
                for number, line in enumerate(text.splitlines(), start=1):
                    if pattern.match(line):
                        return f"{file}:{number}"
    return requirements.where or str(requirements.file or "")


def _refusal(error: UvError, requirements: Requirements) -> InputError:
    reason, hint = error.reason(), ""
    missing = error.missing()
    where = _where(requirements, *(re.split(r"[^\w.-]", each)[0] for each in missing or ()))
    if (place := error.place()) is not None and place[0] != "-":
        file = requirements.folder / place[0]
        text = next((text for path, text in requirements.texts() if path == file), "")
        where = f"{file}:{text.encode()[: place[1]].count(10) + 1}"
    if missing:
        hint = "correct the name or the version, or set UV_INDEX to the address of its package index"
    elif reason.startswith("cannot fetch"):
        hint = "check the network, and the address of the package index (UV_DEFAULT_INDEX)"
    return InputError(reason if where else f"requirements: {reason}", where=where, hint=hint)
