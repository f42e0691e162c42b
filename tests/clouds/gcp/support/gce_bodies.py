"""Validation of request bodies against Google's own types: unknown fields and values that an enumeration lacks.

The types declare fields with an enumeration as text; its values are an enumeration of the same name beside the field.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from gce_records import ApiError
from google.protobuf import json_format  # type: ignore[import-untyped]

__all__ = ["check_body"]


def check_body(kind: Any, body: Mapping[str, Any]) -> None:
    """Raise `ApiError` for a body that is not of this type of ``compute_v1``."""
    try:
        parsed = json_format.Parse(json.dumps(body), kind.pb()())
    except json_format.ParseError as error:
        raise ApiError(400, "invalid", f"Invalid JSON payload received. {str(error).splitlines()[0]}") from error
    for field, value, allowed in _texts(kind, parsed):
        if value not in allowed:
            text = f"Invalid value for field 'resource.{field}': '{value}'. Valid values: {', '.join(sorted(allowed))}."
            raise ApiError(400, "invalid", text)


def _texts(kind: Any, message: Any, path: str = "") -> Iterator[tuple[str, str, set[str]]]:
    """Yield each text with an enumeration: field, value, allowed values."""
    fields = kind.meta.fields
    for descriptor, value in message.ListFields():
        name = descriptor.json_name
        values = list(value.values()) if isinstance(value, Mapping) else value if _is_repeated(value) else [value]
        declared = fields.get(descriptor.name)
        inner = getattr(declared, "message", None)
        enumeration: Any = getattr(kind, "".join(part.capitalize() for part in descriptor.name.split("_")), None)
        for each in values:
            if isinstance(each, str) and hasattr(enumeration, "__members__"):
                yield f"{path}{name}", each, {key for key in enumeration.__members__ if not key.startswith("UNDEFINED")}
            elif inner is not None and hasattr(inner, "meta") and hasattr(each, "ListFields"):
                yield from _texts(inner, each, f"{path}{name}.")


def _is_repeated(value: Any) -> bool:
    return not isinstance(value, (str, bytes)) and hasattr(value, "__len__")
