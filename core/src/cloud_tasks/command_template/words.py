"""Words of a command, and what variables may contain, as the reader of the shell's syntax passes them on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cloud_tasks.command_template.fields import MARK, Field

__all__ = ["Content", "Facts", "UnsafePlaceError", "Variable", "Word", "content_of"]


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


class Content(NamedTuple):
    """What a text may contain besides what is written in the template."""

    fields: Sequence[Field] = ()
    """Placeholders whose values it certainly has."""
    unknown: str = ""
    """Where any other text in it is from, such as ``the output of grep``."""
    is_file: bool = False
    """Whether that is the content of a file."""


def content_of(contents: Iterable[Content]) -> Content:
    """Return the content of a text that consists of others."""
    found = list(contents)
    fields = dict.fromkeys(field for content in found for field in content.fields)
    unknown = sorted((content for content in found if content.unknown), key=lambda content: content.is_file)
    return Content(tuple(fields), *(unknown[0][1:] if unknown else ()))


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
        "splits",
        "substituted",
        "text",
        "unknown",
        "value",
    )

    def __init__(self, text: str = "", unknown: str = "") -> None:
        self.text = text
        """Without quotes; a placeholder as `MARK`, a variable as ``$``, a number as ``$#``, others as ``$()``."""
        self.fields: Sequence[Field] = ()
        """Placeholders in it, in the substitutions in it, and in the values of the variables that it expands."""
        self.unknown = unknown
        """Origin of other text in it, as of `Content`."""
        self.names: frozenset[str] = frozenset()
        """Variables that it expands."""
        self.is_quoted = False
        self.has_expansion = False
        self.splits = False
        """Whether the shell may split it into several words."""
        self.has_process = False
        self.substituted = ""
        """Text of the commands in its last command substitution."""
        self.assigned = ""
        """Variable that it assigns a value to."""
        self.value = ""
        """Text of that value; the members of an array with blanks between."""
        self.members: Sequence[Word] | None = None
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
    def is_computed(self) -> bool:
        """Whether it depends on anything but the template."""
        return self.has_expansion or self.has_process or bool(self.fields or self.unknown)

    @property
    def is_plain(self) -> bool:
        """Whether it is written without quotes, expansions and placeholders."""
        return not (self.is_quoted or self.is_computed)

    @property
    def content(self) -> Content:
        return Content(self.fields, self.unknown)


_Key = tuple[tuple[str, Sequence[Field], str], ...]


class Variable:
    """What is assigned to a variable, anywhere in a command."""

    __slots__ = ("appended", "exact", "fields", "lists", "names", "texts", "unknown")

    def __init__(self) -> None:
        self.exact: dict[Field, None] = {}
        """Fields whose value is its value."""
        self.fields: dict[Field, None] = {}
        """Fields whose values are in its value."""
        self.unknown = ""
        """Origin of other text in it, as of `Content`."""
        self.texts: dict[str, bool] = {}
        """Values as they are written, and whether they contain nothing else."""
        self.names: dict[str, None] = {}
        """Variables that are expanded in its values."""
        self.lists: dict[_Key, Sequence[Word]] = {}
        """Members of the array, for each assignment."""
        self.appended: dict[_Key, Sequence[Word]] = {}
        """Members that are appended to it."""

    @property
    def members(self) -> Sequence[Sequence[Word]]:
        """The possible members of the array."""
        added = [word for words in self.appended.values() for word in words]
        return [[*words, *added] for words in self.lists.values()] or ([added] if added else [])

    @property
    def content(self) -> Content:
        return Content(tuple(self.fields), self.unknown)


class Facts:
    """What was found in a command and in the code in its arguments, in whatever order it is executed.

    Facts are only added: a command is read until there are no more.
    """

    def __init__(self) -> None:
        self.variables: dict[str, Variable] = {}
        self.evaluated: dict[str, None] = {}
        """Variables that the shell evaluates as arithmetic."""
        self.functions: dict[str, None] = {}
        self.has_keys = False
        """Whether there are arrays whose subscripts are text."""
        self.plain = ""
        """Why values must be plain text: the first place where a shell may evaluate text that is not followed."""
        self.separators: set[str] = set()
        """Characters at which the shell splits words in addition to blanks."""
        self.scripts: dict[str, None] = {}
        """Files that shells execute."""
        self.written: dict[str, None] = {}
        """Files that commands write."""

    @property
    def size(self) -> int:
        return sum(
            len(each.exact) + len(each.fields) + len(each.texts) + len(each.names) + bool(each.unknown) + 1
            for each in self.variables.values()
        ) + sum(map(len, (self.evaluated, self.functions, "x" * self.has_keys)))

    def contents(self, names: Iterable[str]) -> Iterable[Content]:
        """Return what may be in the values of variables."""
        found = (self.variables.get(name) for name in names)
        return [each.content for each in found if each is not None]

    def assign(self, name: str, content: Content, text: str = "", *, names: Iterable[str] = ()) -> None:
        """Note an assignment to a variable.

        Args:
            text: The value as it is written, of a `Word`.
            names: Variables that it expands.
        """
        variable, names = self.variables.setdefault(name, Variable()), tuple(names)
        if text == MARK:
            variable.exact |= dict.fromkeys(content.fields)
        elif text == "$" and len(names) == 1 and names[0] in self.variables:
            variable.exact |= self.variables[names[0]].exact
        variable.fields |= dict.fromkeys(content.fields)
        variable.unknown = variable.unknown or content.unknown
        variable.names |= dict.fromkeys(names)
        variable.texts[text] = not (content.fields or content.unknown or "$" in text)

    def assign_list(self, name: str, words: Sequence[Word], *, is_appended: bool = False) -> None:
        """Note an assignment to an array."""
        variable = self.variables.setdefault(name, Variable())
        key = tuple((word.text, tuple(word.fields), word.unknown) for word in words)
        (variable.appended if is_appended else variable.lists)[key] = words
