"""Words of a command, as the reader of the shell's syntax passes them on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cloud_tasks.command_template.fields import MARK, Field

__all__ = ["Position", "UnsafePlaceError", "Word"]


class Position(NamedTuple):
    """What has been read up to a place of the text."""

    fields: int
    expanded: int
    """Expansions of variables."""
    calls: int
    """Calls of functions."""


class UnsafePlaceError(Exception):
    """A placeholder whose value would not be data.

    Args:
        problem: What happens to the value there.
        remedy: What to write instead.
    """

    def __init__(self, field: Field, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.field = field
        self.problem = problem
        self.remedy = remedy
        self.shell_code: tuple[str, Word] | None = None
        """The shell that would execute the value, and the argument with its code."""


class Word:
    """One word of a command."""

    __slots__ = (
        "assigned",
        "fields",
        "has_expansion",
        "has_process",
        "is_quoted",
        "members",
        "names",
        "substituted",
        "text",
        "value",
    )

    def __init__(self) -> None:
        self.text = ""
        """Without quotes; a placeholder as `MARK`, a substitution as ``$()``."""
        self.fields: Sequence[Field] = ()
        """Placeholders in it, in the substitutions in it, and in the values of the variables that it expands."""
        self.names: frozenset[str] = frozenset()
        """Variables that it expands."""
        self.is_quoted = False
        self.has_expansion = False
        self.has_process = False
        """Whether it has a process substitution with a placeholder."""
        self.substituted = ""
        """Text of the commands in its last command substitution."""
        self.assigned = ""
        """Variable that it assigns a value to."""
        self.value = ""
        """Text of that value; the members of an array with blanks between."""
        self.members: Sequence[Word] = ()
        """Members of an array that it assigns."""

    @property
    def assigns(self) -> str:
        """Name before ``=``, where an argument is an assignment also within quotes; else nothing."""
        name, separator, _ = self.text.partition("=")
        return name if separator and name.isidentifier() and name.isascii() else ""

    @property
    def is_direct(self) -> bool:
        """Whether all its placeholders are in the word itself, none in a substitution."""
        return self.text.count(MARK) == len(self.fields)

    @property
    def is_plain(self) -> bool:
        """Whether it is written without quotes, expansions and placeholders."""
        return not (self.is_quoted or self.has_expansion or self.fields or self.has_process)
