"""Text that stands for the values of placeholders: references to variables in a script, and quoted text for people."""

from __future__ import annotations

import re
import shlex

from cloud_tasks.command_template.fields import Field, Place

__all__ = ["Variables", "quoted_value"]


class Variables:
    """Variables of a script for the values of its placeholders, and the positional parameters they are set from."""

    def __init__(self, prefix: str, *, is_bash: bool) -> None:
        self._prefix = prefix
        self._is_bash = is_bash
        self._names: dict[tuple[str, tuple[str, ...] | str], str] = {}
        self._assignments: list[str] = []
        self.arguments: list[str] = []

    def reference(self, field: Field, value: tuple[str, ...] | str) -> str:
        """Return the text that stands for a field in the script."""
        if field.place is Place.COMMENT:
            return ""
        if isinstance(value, tuple):
            return self._list(field.name, value)
        name = self._name(field.name, value)
        if field.place is Place.ARITHMETIC:
            return f"(${{{name}}})" if value.startswith("-") else f"${{{name}}}"
        return _REFERENCES[field.place].replace("NAME", name)

    def _list(self, field: str, values: tuple[str, ...]) -> str:
        if not self._is_bash:
            # There are no arrays.
            return " ".join(f'"${{{self._name(field, value)}}}"' for value in values)
        name = self._names.get((field, values))
        if name is None:
            name = self._new(field, values)
            self._assignments.append(
                f'{name}=("${{@:{len(self.arguments) + 1}:{len(values)}}}")' if values else f"{name}=()"
            )
            self.arguments += values
        # Before version 4.4, an empty array counts as unset.
        return f'${{{name}[@]+"${{{name}[@]}}"}}'

    def _name(self, field: str, value: str) -> str:
        name = self._names.get((field, value))
        if name is None:
            name = self._new(field, value)
            self.arguments.append(value)
            self._assignments.append(f"{name}=${{{len(self.arguments)}}}")
        return name

    def _new(self, field: str, value: tuple[str, ...] | str) -> str:
        name = self._names[field, value] = f"{self._prefix}{len(self._names) + 1}"
        return name

    def assignments(self) -> str:
        """Return the start of the script: it sets the variables and removes the positional parameters."""
        if not self._assignments:
            return ""
        return f"{' '.join(self._assignments)}; shift {len(self.arguments)}; "


_REFERENCES = {
    Place.WORD: '"${NAME}"',
    Place.ONE_WORD: '"${NAME}"',
    Place.DOUBLE: "${NAME}",
    Place.HERE: "${NAME}",
    Place.SINGLE: "'\"${NAME}\"'",
    Place.ANSI: "'\"${NAME}\"$'",
}


def quoted_value(field: Field, value: tuple[str, ...] | str) -> str:
    """Return a value quoted for its place."""
    if isinstance(value, tuple):
        return " ".join(map(shlex.quote, value))
    if field.place is Place.COMMENT:
        return field.text
    if field.place is Place.DOUBLE:
        return re.sub(r'([\\$`"])', r"\\\1", value)
    if field.place in (Place.SINGLE, Place.ANSI):
        closing, opening = "'", "'" if field.place is Place.SINGLE else "$'"
        return value.replace("'", f'{closing}"\'"{opening}').replace("\\", "\\\\" if opening == "$'" else "\\")
    return shlex.quote(value)
