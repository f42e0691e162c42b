"""Checks of requests against botocore's descriptions of the services: names, types, and values of enums.

An SDK checks names and types only, and a fake ignores what it does not know: wrong values would never be noticed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import botocore.session

__all__ = ["problem_of_form", "problem_of_json"]

_PROTOCOL = ("Action", "Version")


def problem_of_form(values: Mapping[str, str]) -> tuple[str, str] | None:
    """Return code and message for the first wrong parameter of an EC2 call; None without one."""
    shape = _input("ec2", values.get("Action", ""))
    if shape is None:
        return None
    for name, value in values.items():
        if name not in _PROTOCOL:
            problem = _in_form(shape, name.split("."), value)
            if problem:
                return problem, f"{name}: {value}"
    missing = [each for each in shape.required_members if not _has(values, _query_name(each, shape.members[each]))]
    return ("MissingParameter", f"The request must contain the parameter {missing[0]}") if missing else None


def problem_of_json(service: str, action: str, body: Any) -> tuple[str, str] | None:
    """Return code and message for the first wrong parameter of a JSON call; None without one."""
    shape = _input(service, action)
    return None if shape is None else next(_in_json(shape, body, "the request"), None)


@cache
def _input(service: str, action: str) -> Any:
    model = botocore.session.get_session().get_service_model(service)
    return model.operation_model(action).input_shape if action in model.operation_names else None


def _query_name(name: str, shape: Any) -> str:
    found = shape.serialization.get("queryName")
    if found:
        return str(found)
    found = shape.serialization.get("name", name)
    return f"{found[0].upper()}{found[1:]}"


def _has(values: Mapping[str, str], name: str) -> bool:
    return any(each == name or each.startswith(f"{name}.") for each in values)


def _in_form(shape: Any, parts: list[str], value: str) -> str:
    """Return the error code for a value at a path below a shape; empty if it is right."""
    if shape.type_name == "list":
        return _in_form(shape.member, parts[1:], value) if parts and parts[0].isdigit() else "UnknownParameter"
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            if parts and _query_name(name, member) == parts[0]:
                return _in_form(member, parts[1:], value)
        return "UnknownParameter"
    return "UnknownParameter" if parts else "" if _fits(shape, value) else "InvalidParameterValue"


def _fits(shape: Any, value: str) -> bool:
    if shape.type_name == "boolean":
        return value in ("true", "false")
    if shape.type_name in ("integer", "long"):
        return value.lstrip("-").isdigit()
    return not shape.metadata.get("enum") or value in shape.metadata["enum"]


def _in_json(shape: Any, value: Any, where: str) -> Iterator[tuple[str, str]]:
    if shape.type_name == "structure":
        for name in value:
            if name not in shape.members:
                yield "UnknownParameter", f"{where}: unknown parameter {name}"
            else:
                yield from _in_json(shape.members[name], value[name], name)
        yield from (("MissingParameter", f"{where}: {name}") for name in shape.required_members if name not in value)
    elif shape.type_name == "list":
        for each in value:
            yield from _in_json(shape.member, each, where)
    elif shape.type_name == "map":
        for each in value:
            yield from _in_json(shape.key, each, where)
            yield from _in_json(shape.value, value[each], where)
    elif shape.metadata.get("enum") and value not in shape.metadata["enum"]:
        yield "InvalidParameterValue", f"{where}: {value}"
