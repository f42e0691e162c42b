"""Names of a queue's generations: the queue ``NAME`` is named ``PREFIX NAME _ GENERATION`` in SQS.

SQS refuses the name of a deleted queue for a minute ("DeleteQueue", Amazon SQS API Reference), so each recreated queue
has a new name. The generation is the minute of its creation, or the next number if that is taken: the newest is the
highest, and two processes that create the queue at the same time create the same one.

Invariants, each with a test:

1. A name in SQS is valid ("Amazon SQS quotas", Developer Guide: 80 letters, digits, hyphens and underscores), for any
   queue name.
2. Two queue names never have one name in SQS, nor one list prefix.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import attrs

from cloud_tasks.plugin.kit import safe_name

__all__ = ["Generation", "generations", "list_prefix", "physical_name"]

_MAX_LENGTH = 80
_DIGITS = 8
"""Hexadecimal digits of the minutes since 1970."""
_FIFO = ".fifo"


@attrs.frozen(order=True)
class Generation:
    """A queue that exists in SQS, or was listed up to a minute ago."""

    number: int
    url: str

    @property
    def fifo(self) -> bool:
        """Whether the queue delivers exactly once."""
        return is_fifo(self.url)


def is_fifo(url: str) -> bool:
    """Return whether the queue is a FIFO queue (exactly-once delivery), by its name."""
    return url.endswith(_FIFO)


def list_prefix(prefix: str, name: str) -> str:
    """Return the common prefix of the names of all generations of a queue."""
    longest = _MAX_LENGTH - len(prefix) - len("_") - _DIGITS - len(_FIFO)
    return f"{prefix}{safe_name(name, allowed='A-Za-z0-9-', longest=longest)}_"


def physical_name(prefix: str, name: str, number: int, *, fifo: bool) -> str:
    """Return the name in SQS."""
    return f"{list_prefix(prefix, name)}{number:0{_DIGITS}x}{_FIFO if fifo else ''}"


def generations(urls: Iterable[str], prefix: str, name: str) -> list[Generation]:
    """Return the generations of this queue in a listing, oldest first."""
    pattern = re.compile(re.escape(list_prefix(prefix, name)) + rf"([0-9a-f]{{{_DIGITS}}})(?:\.fifo)?")
    found = []
    for url in urls:
        match = pattern.fullmatch(url.rpartition("/")[2])
        if match is not None:
            found.append(Generation(int(match[1], 16), url))
    return sorted(found)
