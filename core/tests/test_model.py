"""The public documentation of the domain model."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import cloud_tasks.errors
import cloud_tasks.model
from cloud_tasks.model import constraints

MODULES = [*sorted(Path(cloud_tasks.model.__path__[0]).glob("*.py")), Path(cloud_tasks.errors.__file__)]


def _is_docstring(node: ast.stmt | None) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_constraint(node: ast.stmt) -> bool:
    """Return whether a field has its help text as documentation."""
    value = getattr(node, "value", None)
    return isinstance(value, ast.Call) and getattr(value.func, "id", "") == constraints.constraint.__name__


def undocumented() -> Iterator[str]:
    for module in MODULES:
        for node in ast.parse(module.read_text()).body:
            if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
                continue
            if not _is_docstring(node.body[0]):
                yield f"{module.name}: {node.name}"
            for member, following in zip(node.body, [*node.body[1:], None], strict=True):
                if isinstance(member, ast.FunctionDef) and not member.name.startswith("_"):
                    documented = _is_docstring(member.body[0])
                elif isinstance(member, ast.Assign | ast.AnnAssign) and not ast.unparse(member).startswith("_"):
                    # An enum has its members in its docstring, which `help()` shows.
                    in_docstring = f"\n    {ast.unparse(member).partition(' ')[0]}: " in (ast.get_docstring(node) or "")
                    documented = in_docstring or _is_docstring(following) or _is_constraint(member)
                else:
                    continue
                if not documented:
                    yield f"{module.name}: {node.name}: {ast.unparse(member).splitlines()[0]}"


def test_model_documents_every_class_field_and_enum_member() -> None:
    assert list(undocumented()) == []
