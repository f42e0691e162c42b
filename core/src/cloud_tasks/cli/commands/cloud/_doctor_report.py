"""Report of ``doctor --report``: versions, written settings and checks, to be sent to other people.

Invariants, each with a test:

1. It has no secret, and no text that identifies a person, a machine or an account: written settings, the places that
   the providers name, e-mail and IP addresses, ids and paths of resources are replaced by names.
2. Equal texts have equal names, so that a reader sees what belongs together.
"""

from __future__ import annotations

import getpass
import importlib.metadata
import platform
import re
import socket
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cloud_tasks.config import JobConfig, Layer
from cloud_tasks.controller import place_of
from cloud_tasks.errors import CloudTasksError
from cloud_tasks.escape import without_credentials

__all__ = ["Mask", "mask_of", "render_report"]

_SHOWN = frozenset(
    {
        *("provider", "queue", "compute", "pricing", "event_sinks", "run.architecture", "run.instance_types"),
        *("run.boot_disk_types", "run.gpu_types", "run.cpu_family", "run.prefer", "run.on_error"),
        *("queue partition", "compute partition"),
    }
)
_PLACES = ("region", "zone", "location")
"""Keys, and last parts of keys, whose texts identify nothing; other texts of a configuration or place are replaced."""

_SHORTEST, _SHORTEST_LINE = 3, 8
"""Characters: shorter texts, and shorter lines of scripts, are words of any text."""
_WORDS = frozenset({"default", "true", "false", "none", "http:", "https:", "projects", "global", "regions", "zones"})
_PATH_WORDS = _WORDS | {
    *("networks", "subnetworks", "images", "family", "subscriptions", "resourcegroups", "providers"),
    *("userassignedidentities", "virtualnetworks", "subnets"),
}
"""Words of settings, and of paths of resources, in lower case, that are no names."""

_UNIQUE = (
    ("arn", r"\barn:[\w-]+:[\w-]*:[\w-]*:\d*:[^\s,;'\"()]+"),
    ("email", r"[\w.+#-]+@[\w-]+(?:\.[\w-]+)+"),
    ("id", r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"),
)
"""Kinds of texts that identify something as a whole, wherever they come from."""
_PATTERNS = (
    ("group", r"(?i:(?<=/resourcegroups/))[^/\s,;'\"<]+"),
    ("resource", r"(?i:(?<=/managementgroups/))[^/\s,;'\"<]+"),
    ("resource", r"(?i:/providers/[\w.]+/\w+/)[^/\s,;<]+"),
    ("project", r"(?<=\bprojects/)[^/\s,;'\"<]+"),
    ("job", r"(?<=: job )[a-z][-a-z0-9]*"),
    ("role", r"(?<=\bhas the role )(?!roles/)[\w+=.-]+"),
    ("name", r"\b(?:ct|cloud-tasks)-[a-z0-9][\w-]*"),
    ("key", r"\bA[KS]IA[0-9A-Z]{12,}\b"),
    ("resource", r"\b(?:i|vpc|subnet|sg|vol|eni|lt|fleet|ami|snap|rtb|igw)-[0-9a-f]{8,}\b"),
    ("address", r"(?<![\w.])(?!127\.)\d{1,3}(?:\.\d{1,3}){3}(?![\w.])"),
    ("address", r"(?<![\w:])(?=[0-9a-f:]*::|(?:[0-9a-f]+:){3})[0-9a-f]{1,4}(?:::?[0-9a-f]{1,4}){2,7}(?![\w:])"),
    ("number", r"(?<![\w.])\d{10,}(?![\w.])"),
    ("token", r"(?<![\w/.-])(?=[\w+=-]*\d)(?=[\w+=-]*[A-Za-z])[\w+=-]{40,}(?![\w/.-])"),
)
"""Further kinds, in what the names of the configuration leave."""


class Mask:
    """Replace what identifies something in any text.

    Args:
        known: Names of texts to be replaced, such as ``{"my-project": "gcp.project_id"}``.
        public: Texts that identify nothing, although they look so.
    """

    def __init__(self, known: Mapping[str, str], public: Container[str] = ()) -> None:
        self._known = {
            text: name for text, name in known.items() if len(text) >= _SHORTEST and text.lower() not in _WORDS
        }
        self._public = public
        words = "|".join(map(re.escape, sorted(self._known, key=len, reverse=True)))
        self._words = re.compile(rf"(?<![\w]){'(?:' + words + ')' if words else '(?!)'}(?![\w])")
        self._found: dict[tuple[str, str], str] = {}

    def __call__(self, text: str) -> str:
        """Return the text with names in angle brackets instead."""
        text = self._without(_UNIQUE, without_credentials(text))
        text = self._words.sub(lambda match: f"<{self._known[match[0]]}>", text)
        return self._without(_PATTERNS, text)

    def _without(self, patterns: Iterable[tuple[str, str]], text: str) -> str:
        for kind, pattern in patterns:
            text = re.sub(pattern, lambda match, kind=kind: self._name(kind, match[0]), text)  # type: ignore[misc]
        return text

    def _name(self, kind: str, text: str) -> str:
        if text in self._public:
            return text
        if text in self._known:
            return f"<{self._known[text]}>"
        count = sum(each == kind for each, _ in self._found)
        return self._found.setdefault((kind, text), f"<{kind}-{count + 1}>")


def mask_of(config: JobConfig) -> Mask:
    """Return the mask of a configuration: its written texts, its place, and the names of this machine and user."""
    texts: dict[str, str] = {}
    for kind in ("queue", "compute"):
        # What cannot be found out is one of the findings.
        with suppress(CloudTasksError):
            places = place_of(config, kinds=(kind,))
            texts |= {value: key for key, value in places.items() if not _is_shown(key)}
    for entry in config.entries():
        if entry.origin.layer is not Layer.DEFAULT and not _is_shown(entry.key):
            texts |= dict.fromkeys(_texts(entry.value), entry.key)
    for section, values in config.values.items():
        # Secrets too: their entries are masked.
        for key, value in values.items():
            if key not in _PLACES:
                texts |= dict.fromkeys(_texts(value), f"{section}.{key}")
    known = {part: name for text, name in texts.items() for part in _names_in(text)} | texts
    known |= {str(config.base_dir): "folder", _home(): "home", socket.gethostname(): "host", _user(): "user"}
    shown = {config.run.region, config.run.zone, *config.backends.values()}
    public = {plugin.distribution for plugin in config.registry.plugins()}
    return Mask({text: name for text, name in known.items() if text not in shown}, public)


def _is_shown(key: str) -> bool:
    return key in _SHOWN or re.split("[. ]", key)[-1] in _PLACES


def _home() -> str:
    """Return the home folder; empty without a usable one, as in a container."""
    try:
        home = str(Path.home())
    except RuntimeError:
        return ""
    return "" if home == "/" else home


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run with a user id without a name.
        return ""


def _names_in(text: str) -> Iterator[str]:
    """Yield the names in URLs, paths of resources, addresses and connection strings: a message may have one alone."""
    yield from re.findall(r"(?<=AccountName=)[^;\s]+", text)
    for found in re.findall(r"[a-z0-9+]+://[^\s'\"]+|^[^\s/@]*[/@]\S+$", text):
        for part in re.split("[/@]", found):
            if part.lower() not in _PATH_WORDS:
                yield part
                yield part.partition(".")[0]


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts of a value of the configuration, line by line."""
    if isinstance(value, str):
        lines = [line.strip() for line in value.splitlines()]
        yield from lines if len(lines) == 1 else (line for line in lines if len(line) >= _SHORTEST_LINE)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, Iterable):
        for each in value:
            yield from _texts(each)


def render_report(config: JobConfig, findings: str, mask: Mask) -> str:
    """Return the report as Markdown.

    Args:
        findings: The checks as `doctor` prints them, masked.
        mask: That of the configuration.
    """
    parts = [
        f"# Report of cloud-tasks doctor, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        _block("Versions", "\n".join(_versions(config))),
        _block("Settings", "\n".join(_settings(config, mask)) or "none written"),
        _block("Checks", findings),
    ]
    return "\n\n".join(parts)


def _block(title: str, text: str) -> str:
    return f"## {title}\n\n```\n{text}\n```"


def _versions(config: JobConfig) -> Iterator[str]:
    yield f"Python {platform.python_version()} on {platform.system()} {platform.release()} ({platform.machine()})"
    chosen = set(config.backends.values())
    for plugin in config.registry.plugins():
        yield f"{plugin.name}: {plugin.distribution} {plugin.version}" + (" (broken)" if plugin.problem else "")
        if chosen.intersection({plugin.name, *(item.name for _, item in plugin.registered)}):
            yield from (f"  {each}" for each in _libraries(plugin.distribution))


def _libraries(distribution: str) -> Iterator[str]:
    """Yield the installed requirements of a distribution with their versions."""
    try:
        required = importlib.metadata.requires(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return
    for name in sorted({re.split(r"[^\w.-]", each, maxsplit=1)[0] for each in required}):
        try:
            yield f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue


def _settings(config: JobConfig, mask: Mask) -> Iterator[str]:
    """Yield the written settings with their layers; texts only of the keys that identify nothing."""
    for entry in config.entries():
        if entry.origin.layer is Layer.DEFAULT or entry.value is None:
            continue
        is_text = not _is_shown(entry.key) and any(_texts(entry.value))
        value = f"<{entry.key}>" if is_text else mask(str(entry.value))
        layer = entry.origin.layer.name.lower().replace("_", " ")
        yield f"{entry.key}: {value} ({layer})"
