"""Checks of the nodes of a YAML task, before values are made of them. Linear in what was written, aliases included."""

from __future__ import annotations

import math
from typing import Any
from weakref import WeakKeyDictionary

import attrs
import yaml

from cloud_tasks.sanitize import MAX_DEPTH, MAX_DIGITS

__all__ = ["NodeError", "TaskNodes"]

_MAX_REPEATED = 1_000_000
"""Values and characters that the aliases of one task may repeat."""
_MAX_REPEATED_IN_FILE = 1_000_000_000

_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"


class NodeError(Exception):
    """A node that is refused.

    Args:
        mark: Its place; None if that is not known.
    """

    def __init__(self, reason: str, mark: Any) -> None:
        super().__init__(reason)
        self.reason = reason
        self.mark = mark


@attrs.define
class _Size:
    """Size of a node with its aliases expanded."""

    content: int
    """Number of values plus number of characters."""
    levels: int


class TaskNodes:
    """Checks for the tasks of one file, which share anchors."""

    def __init__(self) -> None:
        self._repeated = 0
        # An anchored node is kept for later tasks, in which its merged mappings (`<<`) have become part of it.
        self._sizes: WeakKeyDictionary[yaml.Node, _Size | None] = WeakKeyDictionary()
        self._written = 0

    def check(self, node: yaml.Node) -> None:
        """Check a task, and turn its keys into text as written.

        Raises:
            NodeError: Too deep, too large with its aliases, an alias of a value inside itself, a key that is given
                twice or is not text, or a number that cannot be kept.
        """
        self._written = 0
        size = self._measure(node)
        repeated = size.content - self._written
        self._repeated += repeated
        if repeated > _MAX_REPEATED or self._repeated > _MAX_REPEATED_IN_FILE:
            limit = _MAX_REPEATED if repeated > _MAX_REPEATED else _MAX_REPEATED_IN_FILE
            raise NodeError(f"its aliases repeat more than {limit:,} values and characters", node.start_mark)

    def _measure(self, node: yaml.Node) -> _Size:
        try:
            size = self._sizes[node]
        except KeyError:
            self._sizes[node] = None
            size = self._sizes[node] = self._measure_new(node)
        if size is None:
            raise NodeError("an alias of a value inside itself", node.start_mark)
        return size

    def _measure_new(self, node: yaml.Node) -> _Size:
        if isinstance(node, yaml.ScalarNode):
            _check_number(node)
            own, content, levels = 1 + len(node.value), 0, 0
        else:
            if isinstance(node, yaml.MappingNode):
                _check_keys(node)
                parts = [part for entry in node.value for part in entry]
            else:
                parts = node.value
            own, content, levels = 1, 0, 0
            for part in parts:
                size = self._measure(part)
                content += size.content
                levels = max(levels, size.levels)
            levels += 1
            if levels > MAX_DEPTH:
                raise NodeError(f"nested deeper than {MAX_DEPTH} levels", node.start_mark)
        self._written += own
        return _Size(own + content, levels)


def _check_keys(node: yaml.MappingNode) -> None:
    found: dict[str, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise NodeError("a key must be text", key.start_mark)
        name = str(key.value)
        if name in found:
            reason = f'"{name[:60]}" is given twice in one object (first in line {found[name] + 1})'
            raise NodeError(reason, key.start_mark)
        found[name] = key.start_mark.line
        if key.tag != _MERGE and key.tag.startswith(_TAG):
            key.tag = f"{_TAG}str"


def _check_number(node: yaml.ScalarNode) -> None:
    text = node.value
    if node.tag == f"{_TAG}int" and len(text) > MAX_DIGITS:
        raise NodeError(f"an integer of more than {MAX_DIGITS:,} digits", node.start_mark)
    if node.tag == f"{_TAG}float":
        try:
            value = float(text.replace("_", ""))
        except ValueError:
            # `.inf`, `.nan`, or a number to the base of 60.
            return
        if math.isinf(value) and "inf" not in text.lower():
            raise NodeError(f"a number beyond the range of a double ({text[:40]})", node.start_mark)
