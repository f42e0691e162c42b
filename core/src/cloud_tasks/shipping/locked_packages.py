"""The text of a lock, as uv writes it: entries with digests, the packages that need them, and their index."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence

import attrs

from cloud_tasks.escape import without_credentials
from cloud_tasks.shipping.wheels import canonical_name

__all__ = ["LockedPackage", "index_options", "parse_lock", "requirements_text", "with_parents"]

PYPI = "https://pypi.org/simple"


@attrs.frozen(kw_only=True)
class LockedPackage:
    """An entry of a lock."""

    spec: str
    """``name==version``, ``name @ address`` or a path, with an environment marker."""
    hashes: tuple[str, ...]
    """``sha256:<digest>`` of each file."""
    parents: frozenset[str]
    """Packages that need it, and ``-r <file>``."""
    index: str
    """Address of its index, without credentials; empty for an address or a path."""

    @property
    def name(self) -> str:
        """Name of the distribution; empty for a local path."""
        found = re.match(r"([A-Za-z0-9][\w.-]*)(\[[^]]*\])? ?(==|@)", self.spec)
        return canonical_name(found[1]) if found else ""

    @property
    def release(self) -> str:
        """``name==version``; empty for an address or a path."""
        found = re.match(r"([A-Za-z0-9][\w.-]*)(?:\[[^]]*\])? *== *([^\s;]+)", self.spec)
        return f"{canonical_name(found[1])}=={found[2]}" if found else ""

    @property
    def is_fetched_here_only(self) -> bool:
        """Whether the machines cannot fetch it: a path, a repository, or an address with credentials."""
        is_local = not self.name or " @ git+" in self.spec or " @ file:" in self.spec or self.index.startswith("file:")
        return is_local or without_credentials(self.spec) != self.spec


def parse_lock(text: str) -> Iterator[LockedPackage]:
    """Yield the entries of a requirements file, as uv and pip-compile write it."""
    block: list[str] = []
    for line in [*text.replace("\\\n", "\n").splitlines(), "end"]:
        if line and not line.startswith((" ", "\t", "#")):
            if block:
                yield _parse(block)
            block = [line]
        elif block:
            block.append(line)


def _parse(block: Sequence[str]) -> LockedPackage:
    parents, index = [], ""
    for line in (each.strip() for each in block[1:]):
        if line.startswith("# from "):
            index = without_credentials(line.removeprefix("# from "))
        elif line.startswith("#"):
            parents.append(re.sub(r"^# *(via\b)? *", "", line))
    hashes = re.findall(r"--hash[= ]([a-z0-9]+:[0-9a-f]+)", " ".join(block))
    spec = block[0].partition(" --hash")[0].partition(" #")[0].strip()
    return LockedPackage(spec=spec, hashes=tuple(hashes), parents=frozenset(filter(None, parents)), index=index)


def with_parents(entries: Sequence[LockedPackage], names: Collection[str], source: str) -> set[str]:
    """Return the packages that those with the names or a requirements file need, directly or not."""
    found, before = set(names), -1
    while len(found) > before:
        before = len(found)
        found |= {entry.name for entry in entries if entry.parents & found or source in entry.parents}
    return found


def index_options(entries: Iterable[LockedPackage]) -> tuple[str, ...]:
    """Return the lines that name the indexes of entries; none for the public one, which counts if none is named."""
    indexes = list(dict.fromkeys(entry.index for entry in entries if entry.index))
    public = [index for index in indexes if index.rstrip("/") == PYPI]
    others = [index for index in indexes if index not in public]
    first = [] if public else [f"--index-url {index}" for index in others[:1]]
    return (*first, *(f"--extra-index-url {index}" for index in others[len(first) :]))


def requirements_text(entries: Iterable[LockedPackage], options: Sequence[str]) -> str:
    """Return a requirements file with options and entries; empty without entries."""
    lines = [" \\\n    ".join([entry.spec, *(f"--hash={digest}" for digest in entry.hashes)]) for entry in entries]
    return "".join(f"{line}\n" for line in ([*options, *lines] if lines else []))
