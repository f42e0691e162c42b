"""The names of a queue's generations: what users call ``NAME`` is at SQS ``PREFIX NAME _ GENERATION``.

SQS gives a name free only a minute after its queue was deleted ("DeleteQueue", Amazon SQS API Reference), so each
queue that is made anew gets a new name. The generation is the minute of its making, or the next number where that is
taken: the newest is the greatest, and two that make the queue at once make the same one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import attrs

from cloud_tasks.errors import InputError

__all__ = ["Generation", "generations", "list_prefix", "physical_name"]

_NAME = re.compile(r"[A-Za-z0-9-]{1,40}")
_DIGITS = 8
"""Of the hexadecimal number of minutes since 1970."""
_FIFO = ".fifo"


@attrs.frozen(order=True)
class Generation:
    """One queue that SQS has, or had a minute ago."""

    number: int
    url: str

    @property
    def fifo(self) -> bool:
        """Whether it is of the kind that delivers once."""
        return is_fifo(self.url)


def is_fifo(url: str) -> bool:
    """Whether a queue delivers once, which its name tells."""
    return url.endswith(_FIFO)


def list_prefix(prefix: str, name: str) -> str:
    """What the names of all generations of a queue begin with.

    Raises:
        InputError: SQS cannot have such a name.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f'"{name}" cannot be the name of a queue at SQS: at most 40 letters, digits and hyphens')
    return f"{prefix}{name}_"


def physical_name(prefix: str, name: str, number: int, *, fifo: bool) -> str:
    """The name at SQS."""
    return f"{list_prefix(prefix, name)}{number:0{_DIGITS}x}{_FIFO if fifo else ''}"


def generations(urls: Iterable[str], prefix: str, name: str) -> list[Generation]:
    """Those of a listing that are generations of this queue, oldest first."""
    pattern = re.compile(re.escape(list_prefix(prefix, name)) + rf"([0-9a-f]{{{_DIGITS}}})(?:\.fifo)?")
    found = []
    for url in urls:
        match = pattern.fullmatch(url.rpartition("/")[2])
        if match is not None:
            found.append(Generation(int(match[1], 16), url))
    return sorted(found)
