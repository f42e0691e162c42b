"""Terraform blocks as data, and their text in Terraform's own language (HCL).

The text is that of "Terraform Language: Syntax Configuration" and "Strings and Templates".

Invariant, with a test: a parser of HCL reads the values that were written, whatever characters they have.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

__all__ = ["TerraformBlock", "TerraformExpression", "terraform_text"]

_SHORT = {"b": "\\u0008", "f": "\\u000c"}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


@attrs.frozen
class TerraformExpression:
    """Text that Terraform evaluates: ``google_service_account.worker.email``."""

    text: str
    """The expression."""


@attrs.frozen(kw_only=True)
class TerraformBlock:
    """A block with arguments and nested blocks: ``resource "google_storage_bucket" "staging" { … }``."""

    kind: str
    """``resource``, ``data``, ``terraform``, or the name of a nested block."""
    labels: tuple[str, ...] = ()
    """Type and name of a resource."""
    arguments: Mapping[str, Any] = attrs.field(factory=dict)
    """Values by name: texts, numbers, booleans, sequences, mappings, `TerraformExpression`."""
    blocks: tuple[TerraformBlock, ...] = ()
    """Nested blocks."""


def terraform_text(blocks: Sequence[TerraformBlock]) -> str:
    """Return blocks as the text of a ``.tf`` file. Raises `ValueError` for a name or value that it cannot have."""
    return "\n".join("\n".join(_block(block)) + "\n" for block in blocks)


def _block(block: TerraformBlock, indent: str = "") -> Iterator[str]:
    head = " ".join((_name(block.kind), *map(_quoted, block.labels)))
    yield f"{indent}{head} {{"
    width = max((len(name) for name in block.arguments), default=0)
    for name, value in block.arguments.items():
        yield f"{indent}  {_name(name):<{width}} = {_value(value, indent + '  ')}"
    for number, nested in enumerate(block.blocks):
        if number or block.arguments:
            yield ""
        yield from _block(nested, indent + "  ")
    yield f"{indent}}}"


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r}: invalid name of a Terraform block or argument")
    return name


def _value(value: Any, indent: str) -> str:
    match value:
        case TerraformExpression():
            return value.text
        case bool():
            return "true" if value else "false"
        case str():
            return _quoted(value)
        case int() | float():
            return repr(value)
        case Mapping():
            inner = indent + "  "
            entries = [f"{inner}{_quoted(key)} = {_value(each, inner)}" for key, each in value.items()]
            return "\n".join(["{", *entries, f"{indent}}}"]) if entries else "{}"
        case Sequence():
            inner = indent + "  "
            if not any(isinstance(each, (Mapping, str)) for each in value) or len(value) < 2:
                return f"[{', '.join(_value(each, indent) for each in value)}]"
            return "\n".join(["[", *(f"{inner}{_value(each, inner)}," for each in value), f"{indent}]"])
    raise ValueError(f"{type(value).__name__}: invalid type of a Terraform argument")


def _quoted(text: str) -> str:
    # The escapes of JSON are those of Terraform, but for the two short ones, and for the begin of a template.
    escaped = json.dumps(text, ensure_ascii=False).replace("${", "$\\u007b").replace("%{", "%\\u007b")
    return re.sub(r"(?<!\\)((?:\\\\)*)\\([bf])", lambda found: found[1] + _SHORT[found[2]], escaped)
