"""Settings of plugins on an instance, read from environment variables instead of a configuration file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import attrs

from cloud_tasks.errors import CloudTasksError, InputError
from cloud_tasks.plugin import setting_info
from cloud_tasks.setting_values import field_types, is_unset, parse_setting
from cloud_tasks.worker.options import PREFIXES

__all__ = ["secret_variables", "settings_from_environment"]

_JOB_SETTINGS = ("project_id", "region", "zone")
"""Settings that a plugin may also take from the job."""


def secret_variables(settings: type[Any], section: str) -> tuple[str, ...]:
    """Return the variables of a plugin's section that hold secrets; not general ones, which tasks may need."""
    secrets = [field.name for field in attrs.fields(cast(Any, settings)) if setting_info(field).secret]
    return tuple(variable for name in secrets for variable in _variables(section, name))


def _variables(section: str, key: str) -> list[str]:
    return [prefix + f"{section}_{key}".upper().replace("-", "_") for prefix in PREFIXES]


def settings_from_environment(settings: type[Any], section: str, environ: Mapping[str, str]) -> Any:
    """Return an instance of a plugin's settings class; unset variables leave the defaults.

    Args:
        settings: The attrs class.
        section: Name of the plugin's section, which begins the names of its variables.

    Raises:
        InputError: A value is invalid, or one without a default is missing.
    """
    kinds = field_types(settings)
    values: dict[str, Any] = {}
    has_secret = False
    for field in attrs.fields(cast(Any, settings)):
        if not field.init:
            continue
        info, sources = setting_info(field), _variables(section, field.name)
        if info.env is not None:
            sources.append(info.env)
        if field.name in _JOB_SETTINGS:
            sources += [prefix + field.name.upper() for prefix in PREFIXES]
        found = next((source for source in sources if not is_unset(environ.get(source))), None)
        if found is not None:
            has_secret = has_secret or info.secret
            try:
                values[field.alias] = parse_setting(environ[found], kinds[field.name])
            except ValueError as error:
                reason = "this value cannot be used (it is a secret and not shown)" if info.secret else str(error)
                raise InputError(f"{section}.{field.name}: {reason}", where=found) from None if info.secret else error
        elif field.default is attrs.NOTHING:
            raise InputError(f"{section}.{field.name}: required", hint=f"set {sources[0]}")
    try:
        return settings(**values)
    except CloudTasksError:
        raise
    except Exception as error:
        reason = str(error.args[0] if error.args else error)
        if not isinstance(error, ValueError):
            reason = f"the check of its settings failed with {type(error).__name__}: {reason}"
        if has_secret:
            reason = "invalid combination of settings"
        raise InputError(f"{section}: {reason}") from None if has_secret else error
