"""Docstrings of classes with a section "Attributes", made from the strings below fields and the help texts of settings.

Python drops those strings, so ``help()`` would show names only. Source text is read when a docstring is first asked
for: an import costs nothing. ``help()`` does not ask enums, whose docstrings have the section in the source. Standard
library only.

Invariants, each with a test:

1. Nothing is read or imported before the docstring of a class is read.
2. A class without source text keeps its docstring.
"""

from __future__ import annotations

from typing import Any

__all__ = ["attribute_texts", "show_attributes"]

_PACKAGE = __name__.partition(".")[0]


def show_attributes(value: Any) -> Any:
    """Make the docstring of a class list its attributes, inherited ones included; return the given value."""
    if type(value) is type and not isinstance(vars(value).get("__doc__"), _AttributeDoc):
        value.__doc__ = _AttributeDoc(value.__doc__)  # type: ignore[assignment]
    return value


def attribute_texts(cls: type[Any]) -> dict[str, str]:
    """Return the text of each attribute of a class of this package by name, those of its bases first."""
    fields = getattr(cls, "__attrs_attrs__", ())
    found = {field.name: each.help for field in fields for each in field.metadata.values() if hasattr(each, "help")}
    for base in reversed(cls.__mro__):
        if base.__module__.partition(".")[0] == _PACKAGE:
            found |= _texts_below(base)
    return found


class _AttributeDoc:
    """A docstring that is completed when it is first read."""

    def __init__(self, text: str | None) -> None:
        self._text = text or ""
        self._is_complete = False

    def __get__(self, instance: object, owner: type[Any]) -> str:
        if not self._is_complete:
            self._is_complete = True
            lines = [f"    {name}: {text}" for name, text in attribute_texts(owner).items()]
            if lines:
                self._text = "\n".join([self._text.rstrip(), "", "Attributes:", *lines])
        return self._text


def _texts_below(cls: type[Any]) -> dict[str, str]:
    import ast
    import inspect
    import itertools
    import textwrap

    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return {}
    found = {}
    for node, below in itertools.pairwise(tree.body if isinstance(tree, ast.ClassDef) else ()):
        match node, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
    return found
