"""Plugins on an instance: only those that the job names, their settings from the environment, no configuration file."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import attrs

from cloud_tasks.errors import InputError
from cloud_tasks.plugin import setting_info
from cloud_tasks.worker.options import PREFIXES

__all__ = ["settings_from_environment"]

_OF_THE_JOB = ("project_id", "region", "zone")
"""What the job says of itself concerns its plugins too."""
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")


def settings_from_environment(settings: type[Any], section: str, environ: Mapping[str, str]) -> Any:
    """An instance of a plugin's settings class; what the environment does not say has its default.

    Raises:
        InputError: A value cannot be understood, or one without a default is missing.
    """
    hints = typing.get_type_hints(settings)
    values: dict[str, Any] = {}
    for field in attrs.fields(cast(Any, settings)):
        name = f"{section}_{field.name}".upper().replace("-", "_")
        sources = [prefix + name for prefix in PREFIXES]
        own = setting_info(field).env
        if own is not None:
            sources.append(own)
        if field.name in _OF_THE_JOB:
            sources += [prefix + field.name.upper() for prefix in PREFIXES]
        found = next((source for source in sources if environ.get(source, "") != ""), None)
        if found is not None:
            try:
                values[field.alias] = environ[found] if field.converter else _value(environ[found], hints[field.name])
            except (ValueError, TypeError, ArithmeticError) as error:
                raise InputError(f'"{environ[found]}" is no usable value: {error}', where=found) from error
        elif field.default is attrs.NOTHING:
            raise InputError(f"{section}.{field.name} is not known", hint=f"set {sources[0]}")
    try:
        return settings(**values)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise InputError(f"the settings of {section} cannot be used: {error}") from error


def _value(text: str, kind: Any) -> Any:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kinds = [member for member in typing.get_args(kind) if member is not type(None)]
        kind = kinds[0] if len(kinds) == 1 else str
    if kind is bool:
        if text.lower() in _TRUE:
            return True
        if text.lower() in _FALSE:
            return False
        raise ValueError("expected 1, true, 0 or false")
    if kind in (int, float, Path):
        return kind(text)
    if typing.get_origin(kind) is tuple:
        # Words are separated by spaces or commas, as in a configuration.
        return tuple(_value(word, typing.get_args(kind)[0]) for word in text.replace(",", " ").split())
    return text if kind is str or not callable(kind) else kind(text)
