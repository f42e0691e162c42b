"""Read a configuration file: YAML to plain values, each key with its line.

Invariants, each with a test:

1. Values are mappings, lists, text, numbers, true/false and null; any other tag is refused, and nothing is executed.
2. A key given twice in one mapping is refused, at its second line.
3. The size of the file, its depth and the expansion of aliases are bounded.
4. An error about a file that is no configuration, such as ``/etc/shadow``, has nothing of its content, and no error has
   anything of a value, which may be a secret. A value that begins as a tag, anchor or alias is refused, never dropped.
5. A pipe that no program writes to is refused after `_WRITER_SECONDS`.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import yaml

from cloud_tasks.booleans import BOOLEANS
from cloud_tasks.errors import InputError
from cloud_tasks.sanitize import MAX_DIGITS
from cloud_tasks.setting_values import FLOAT, INTEGER

__all__ = ["Located", "parse_yaml_text", "read_document"]

_MAX_NODES = 100_000
_MAX_BYTES = 16 << 20
_TAG = "tag:yaml.org,2002:"
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
"""Names of sections and keys; anything else may be a line of another kind of file."""
_INDICATOR = re.compile(r"\b(?:alias|anchor|tag)\b")
_QUOTE = 'put a value that begins with "!", "&" or "*" in quotes'
_COMMAS = "put a value with commas in quotes"
_CHARACTER = re.compile(r"(?:,? but found)? (['\"])(?!<|\W\1|\\[nrt]\1).*?\1")
"""What a message of the YAML library quotes, except tokens (``<block end>``) and punctuation."""
_WRITER_SECONDS = 5.0


class _Loader(yaml.SafeLoader):
    """YAML with simple scalars only: decimal numbers (``1e3`` too), no dates, no octal or base-60 numbers."""

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if event.tag == "!" or (anchor is not None and not event.value):
            raise yaml.composer.ComposerError(None, None, "a tag or anchor without a value", event.start_mark)
        return super().compose_scalar_node(anchor)


_Loader.yaml_implicit_resolvers = {}
_SPELLINGS = "|".join(f"{word}|{word.capitalize()}|{word.upper()}" for word in BOOLEANS if word.isalpha())
_WORDS = re.compile(rf"(?:{_SPELLINGS})\Z")
_Loader.add_implicit_resolver(f"{_TAG}bool", _WORDS, list("yYnNtTfFoO"))
_Loader.add_implicit_resolver(f"{_TAG}int", INTEGER, list("-+0123456789"))
_Loader.add_implicit_resolver(f"{_TAG}float", FLOAT, list("-+0123456789."))
_Loader.add_implicit_resolver(f"{_TAG}null", re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(f"{_TAG}merge", re.compile(r"<<\Z"), ["<"])


@attrs.frozen(kw_only=True)
class Located:
    """A value and the line of its key; the value of a section is a dict of located values."""

    value: Any = attrs.field(repr=False)
    line: int


def read_document(file: Path) -> Mapping[str, Located]:
    """Return the keys at the top of the file; the value of a mapping is ``dict[str, Located]``.

    Raises:
        InputError: The file cannot be read, is not YAML, or is not a mapping.
    """
    try:
        content = _read(file)
        if len(content) > _MAX_BYTES:
            raise InputError(f"larger than {_MAX_BYTES >> 20} MB", where=str(file), hint="check the path of --config")
        text = content.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise InputError("file not found", where=str(file), hint="check the path given with --config") from error
    except OSError as error:
        raise InputError(f"cannot read the file: {error.strerror}", where=str(file)) from error
    except UnicodeDecodeError as error:
        raise InputError("not UTF-8 text", where=str(file), hint="save it as UTF-8") from error
    node = _compose(text, str(file))
    if node is None or (isinstance(node, yaml.ScalarNode) and node.tag == f"{_TAG}null"):
        return {}
    reader = _Reader(str(file))
    if not isinstance(node, yaml.MappingNode):
        raise InputError("expected settings (key: value)", where=reader.place(node))
    return reader.located(node, depth=2)


def _read(file: Path) -> bytes:
    """Return the content up to one byte more than allowed; wait for the writer of a pipe for a limited time."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with open(descriptor, "rb") as stream:
        begin = _begin_of_pipe(descriptor, file) if stat.S_ISFIFO(os.fstat(descriptor).st_mode) else b""
        os.set_blocking(descriptor, True)
        return begin + stream.read(_MAX_BYTES + 1 - len(begin))


def _begin_of_pipe(descriptor: int, file: Path) -> bytes:
    deadline = time.monotonic() + _WRITER_SECONDS
    while time.monotonic() < deadline:
        try:
            if begin := os.read(descriptor, 1024):
                return begin
        except BlockingIOError:
            # A program has it open for writing.
            return b""
        time.sleep(0.05)
    raise InputError("no program writes to this pipe", where=str(file), hint="check the path of --config")


def parse_yaml_text(text: str) -> Any:
    """Return the plain value of a YAML text, e.g. ``[{on: exit, codes: [137]}]``. Raises `ValueError`."""
    try:
        node = _compose(text, "")
        return None if node is None else _Reader("").plain(node)
    except InputError as error:
        raise ValueError(str(error)) from error


def _compose(text: str, name: str) -> yaml.Node | None:
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if name and mark is not None else name
        problem = str(error.problem or error.context)
        if _INDICATOR.search(f"{error.context} {problem}"):
            raise InputError("invalid tag, anchor or alias", where=where, hint=_QUOTE) from error
        raise InputError(f"invalid YAML: {_CHARACTER.sub('', problem)}", where=where) from error
    except yaml.reader.ReaderError as error:
        raise InputError(f"invalid YAML: {error.reason}", where=name) from error
    except RecursionError as error:
        raise InputError("invalid YAML: nested too deeply", where=name) from error


class _Reader:
    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes = 0

    def place(self, node: yaml.Node) -> str:
        return f"{self._name}:{node.start_mark.line + 1}" if self._name else ""

    def located(self, mapping: yaml.MappingNode, *, depth: int) -> dict[str, Located]:
        """Return the entries of a mapping, with lines down to ``depth`` levels."""
        found: dict[str, Located] = {}
        for key, name, node in self._entries(mapping, named=True):
            if depth > 1 and isinstance(node, yaml.MappingNode):
                value: Any = self.located(node, depth=depth - 1)
            else:
                value = self.plain(node)
            found[name] = Located(value=value, line=key.start_mark.line + 1)
        return found

    def plain(self, node: yaml.Node) -> Any:
        """Return the value of a node without lines."""
        self._count(1)
        try:
            if isinstance(node, yaml.MappingNode):
                return {name: self.plain(value) for _, name, value in self._entries(node)}
            if isinstance(node, yaml.SequenceNode):
                self._require(node, "seq")
                return [self.plain(item) for item in node.value]
        except RecursionError as error:
            raise InputError("an alias contains itself", where=self.place(node)) from error
        return self._scalar(node)

    def _entries(self, mapping: yaml.MappingNode, *, named: bool = False) -> list[tuple[yaml.Node, str, yaml.Node]]:
        """Return key node, key and value node of each entry; own entries replace those of merged mappings (``<<``).

        Args:
            named: The keys are names of sections or settings.
        """
        self._require(mapping, "map")
        written: dict[str, tuple[yaml.Node, str, yaml.Node]] = {}
        merged: dict[str, tuple[yaml.Node, str, yaml.Node]] = {}
        # Mappings that are merged into each other multiply as aliases do.
        self._count(len(mapping.value))
        for key, value in mapping.value:
            if key.tag == f"{_TAG}merge":
                for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if not isinstance(source, yaml.MappingNode) or source is mapping:
                        raise InputError('"<<" accepts other mappings only', where=self.place(key))
                    for entry in self._entries(source):
                        merged.setdefault(entry[1], entry)
                continue
            # YAML reads the key `on` of a retry rule as a boolean.
            if not isinstance(key, yaml.ScalarNode) or key.tag not in (f"{_TAG}str", f"{_TAG}bool"):
                raise InputError("a key must be plain text", where=self.place(key))
            if named and not _KEY.fullmatch(key.value):
                hint = "a key has letters, digits, _ and -; check the path of --config"
                raise InputError("expected settings (key: value)", where=self.place(key), hint=hint)
            if named and _lacks_colon(key, value):
                raise InputError("expected settings (key: value)", where=self.place(key), hint=_COMMAS)
            if key.value in written:
                first = written[key.value][0].start_mark.line + 1
                name = key.value if named else "a key"
                raise InputError(
                    f"{name}: given twice (first in line {first})", where=self.place(key), hint="remove one"
                )
            written[key.value] = (key, key.value, value)
        return list({**merged, **written}.values())

    def _count(self, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > _MAX_NODES:
            raise InputError("expands to too many values", where=self._name, hint="remove nested aliases")

    def _scalar(self, node: yaml.Node) -> Any:
        kind = node.tag.removeprefix(_TAG)
        text = str(node.value)
        if kind == "str":
            return text
        if kind == "null":
            return None
        if kind == "bool" and text.isalpha() and text.lower() in BOOLEANS:
            return BOOLEANS[text.lower()]
        if kind == "int" and INTEGER.match(text):
            if len(text) > MAX_DIGITS:
                raise InputError(f"an integer of more than {MAX_DIGITS:,} digits", where=self.place(node))
            return int(text)
        if kind == "float" and FLOAT.match(text):
            return float(text)
        raise self._unsupported(node)

    def _require(self, node: yaml.Node, kind: str) -> None:
        if node.tag != f"{_TAG}{kind}":
            raise self._unsupported(node)

    def _unsupported(self, node: yaml.Node) -> InputError:
        return InputError("this tag is not supported in a configuration", where=self.place(node), hint=_QUOTE)


def _lacks_colon(key: yaml.Node, value: yaml.Node) -> bool:
    """Return whether a key is a lone word, such as the rest of a value that a comma split."""
    start, end = key.end_mark.pointer, value.start_mark.pointer
    return start <= end == value.end_mark.pointer and ":" not in str(key.end_mark.buffer)[start:end]
