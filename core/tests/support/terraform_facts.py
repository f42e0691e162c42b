"""Terraform files as plain values, read by a parser of its language."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import hcl2

__all__ = ["terraform_resources"]


def terraform_resources(text: str) -> dict[str, dict[str, Any]]:
    """Return the arguments of the resources of a file, by ``type.name``; expressions are ``${…}``."""
    found: dict[str, dict[str, Any]] = {}
    for block in hcl2.loads(text).get("resource", []):
        for kind, named in block.items():
            for name, body in named.items():
                if name != "__is_block__":
                    found[f"{json.loads(kind)}.{json.loads(name)}"] = _plain(body)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_plain(key): _plain(each) for key, each in value.items() if key != "__is_block__"}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, str) and value.startswith('"'):
        return json.loads(value)
    return value
