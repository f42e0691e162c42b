"""Rewriting of an argument that is shell code, so that it takes values as arguments: the line to write instead."""

from __future__ import annotations

import shlex

from cloud_tasks.command_template.fields import MARK, Field, Place
from cloud_tasks.command_template.shell_syntax import read_places
from cloud_tasks.command_template.words import UnsafePlaceError, Word

__all__ = ["with_arguments"]


def with_arguments(program: str, word: Word) -> str:
    """Return the command with the placeholders of its code passed as arguments: ``bash -c 'echo "$1"' _ {name}``."""
    general = f"{program} -c '… \"$1\" …' _ {word.fields[0].text}"
    if word.has_expansion or not word.is_direct:
        return general
    copies = [Field(field.name, is_known=True) for field in word.fields]
    try:
        read_places(word.text, copies, is_bash=True)
    except UnsafePlaceError:
        return general
    parts = word.text.split(MARK)
    code = parts[0]
    names = list(dict.fromkeys(field.name for field in copies))
    for field, part in zip(copies, parts[1:], strict=True):
        reference = f"${names.index(field.name) + 1}"
        if field.place is Place.SINGLE:
            reference = f"'\"{reference}\"'"
        elif field.place in (Place.WORD, Place.ONE_WORD):
            reference = f'"{reference}"'
        elif field.place is not Place.DOUBLE:
            return general
        code += reference + part
    return f"{program} -c {shlex.quote(code)} _ {' '.join(f'{{{name}}}' for name in names)}"
