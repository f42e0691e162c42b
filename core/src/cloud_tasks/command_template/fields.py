"""Placeholders of a command template: what counts as one, and which value of a task's data it has.

Rules:

- ``{name}`` is a placeholder if the data has that field, in any spelling, or if the name looks like one: words of
  letters, digits and ``_``, joined by single ``-``, ``.`` or blanks.
- ``${…}`` and ``\\{…`` belong to the shell; so do other braces, such as ``{}``, ``{1..3}``, ``{a,b}``, ``{ list; }``.
- ``{{`` is a literal ``{``; the ``}}`` that closes it is a literal ``}``.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

__all__ = [
    "MARK",
    "Field",
    "Place",
    "candidates",
    "field_texts",
    "find_value",
    "is_field",
    "is_like_a_name",
    "misspelled",
    "names_of",
    "split_template",
]

MARK = "\0"
"""Stands for a placeholder in the text of a template."""

_CANDIDATE = re.compile(r"\{([^{}]*)\}")
_LIKE_A_NAME = re.compile(r"\w+(?:[-. ]\w+)*")
_FORMAT = re.compile(r"(.+?)\s*(?:[:!][^\s\"']*|\[[^\]]*\])")
_MISSING = object()


class Place(enum.Enum):
    """Part of the shell's language in which a placeholder stands."""

    WORD = "word"
    """Unquoted, where a list may be several words."""
    ONE_WORD = "one word"
    """Unquoted, where one word is expected: assignment, redirection, pattern."""
    DOUBLE = "double quotes"
    HERE = "here-document"
    SINGLE = "single quotes"
    ANSI = "$'…'"
    ARITHMETIC = "arithmetic"
    COMMENT = "comment"


class Field:
    """One placeholder in a template; the last five attributes are set when the shell's syntax around it is read."""

    __slots__ = ("is_file", "is_integer", "is_known", "is_program", "name", "place", "unsafe")

    def __init__(self, name: str, *, is_known: bool) -> None:
        self.name = name
        self.is_known = is_known
        """Whether the data has the field."""
        self.place = Place.WORD
        self.is_integer = False
        """Whether the shell evaluates the value as arithmetic."""
        self.is_program = False
        """Whether the value is the name of the program."""
        self.is_file = False
        """Whether the value only names a file that a redirection opens."""
        self.unsafe: Exception | None = None
        """Why the value is not data unless it is a number."""

    @property
    def text(self) -> str:
        """The placeholder as it is written."""
        return f"{{{self.name}}}"


def candidates(template: str) -> tuple[str, ...]:
    """Return the texts in braces that may be the names of fields."""
    return tuple(name for name in dict.fromkeys(_CANDIDATE.findall(template)) if name)


def is_like_a_name(name: str) -> bool:
    """Return whether a text in braces is a placeholder even if no field has that name."""
    return _LIKE_A_NAME.fullmatch(name) is not None


def is_field(name: str, values: Mapping[str, Any]) -> bool:
    """Return whether the data has a field."""
    return find_value(name, values) is not _MISSING


def split_template(template: str, known: Container[str]) -> tuple[str, list[Field]]:
    """Return the template with a `MARK` for each placeholder and without escapes, and the placeholders in order.

    Args:
        known: Names of the fields that the data has.
    """
    parts: list[str] = []
    fields: list[Field] = []
    open_braces: list[str] = []
    at, end = 0, len(template)
    while at < end:
        letter = template[at]
        if letter == "{":
            is_shells = _is_shells(template, at)
            if not is_shells and template.startswith("{{", at):
                parts.append("{")
                open_braces.append("{{")
                at += 2
                continue
            candidate = None if is_shells else _CANDIDATE.match(template, at)
            if candidate is not None:
                name = candidate[1]
                is_known = name in known
                if is_known or is_like_a_name(name):
                    fields.append(Field(name, is_known=is_known))
                    parts.append(MARK)
                else:
                    parts.append(candidate[0])
                at = candidate.end()
                continue
            open_braces.append("{")
        elif letter == "}" and open_braces:
            if open_braces[-1] == "{":
                open_braces.pop()
            elif template.startswith("}}", at):
                open_braces.pop()
                at += 1
        parts.append(letter)
        at += 1
    return "".join(parts), fields


def _is_shells(template: str, at: int) -> bool:
    """Return whether a brace follows ``$`` or a backslash that escapes it."""
    if template.startswith("$", at - 1):
        return at > 0
    start = at
    while start and template[start - 1] == "\\":
        start -= 1
    return (at - start) % 2 == 1


def misspelled(template: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what is no placeholder but is probably meant as one, with the field: ``{ name }``, ``{name:03d}``."""
    for candidate in _CANDIDATE.finditer(template):
        if template[: candidate.start()].endswith(("$", "{", "\\")):
            continue
        name = candidate[1]
        if is_field(name, values):
            continue
        formatted = _FORMAT.fullmatch(name)
        for inner in (name.strip(), formatted[1] if formatted else ""):
            if inner and inner != name and is_field(inner, values):
                yield candidate[0], inner
                break


def find_value(name: str, values: Mapping[str, Any]) -> Any:
    """Return the value of a field, or of a member of a field: ``a.b``; an object of no use if there is none."""
    if name in values:
        return values[name]
    for at, letter in enumerate(name):
        if letter == "." and isinstance(member := values.get(name[:at]), Mapping):
            found = find_value(name[at + 1 :], member)
            if found is not _MISSING:
                return found
    return _MISSING


def field_texts(value: Any) -> tuple[str, ...] | str:
    """Return the text of a value: strings as they are, anything else as JSON; a tuple for a list."""
    if isinstance(value, (list, tuple)):
        return tuple(_text(entry) for entry in value)
    return _text(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def names_of(values: Mapping[str, Any]) -> Iterable[str]:
    """Return the names that a placeholder may have, members of objects included to one level."""
    for name, value in values.items():
        yield name
        if isinstance(value, Mapping):
            yield from (f"{name}.{member}" for member in value)
