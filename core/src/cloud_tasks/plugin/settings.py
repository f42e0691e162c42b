"""Description of a plugin's configuration section: a frozen attrs class with fields made by `setting`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from cloud_tasks.model import constraint_info

__all__ = ["NoSettings", "SettingInfo", "setting", "setting_info"]

_KEY = "cloud_tasks.setting"


@attrs.frozen(kw_only=True)
class SettingInfo:
    """Description of a setting, besides its type and default."""

    help: str
    """One line without a full stop, with the unit of a quantity."""
    env: str | None = None
    """Additional environment variable, which ranks below ``CLOUD_TASKS_<SECTION>_<KEY>``."""
    flag: str | None = None
    """Command-line option, e.g. ``--project-id``; None: only ``--set section.key=value``."""
    secret: bool = False
    """Whether it is a secret: never shown, logged or stored, and never in a startup script."""
    worker: bool = False
    """Whether workers need it. It is then exported in the startup script; a secret is delivered by the compute backend
    (`ComputeTraits.delivers_secrets`), shipped with a program, or fetched by the user's script."""
    asked: bool = False
    """Whether ``init`` prompts for it although it has a default."""
    locates: bool = False
    """Whether it decides where queues or instances are, such as an account, a prefix, an endpoint or a folder. A job is
    resumed and stopped only with the value that it was started with."""


def setting(
    *,
    help: str,
    default: Any = attrs.NOTHING,
    factory: Callable[[], Any] | None = None,
    env: str | None = None,
    flag: str | None = None,
    secret: bool = False,
    worker: bool = False,
    asked: bool = False,
    locates: bool = False,
    validator: Any = None,
    converter: Any = None,
) -> Any:
    """Return a field of a settings class; the arguments are those of `SettingInfo` and of `attrs.field`.

    A validator raises `ValueError` with a message that reads well after ``section.key: ``. The configuration check
    calls it before the settings object exists, with the section's values as attributes of its first argument.
    """
    if secret and locates:
        raise TypeError("a secret is not recorded with a job")
    info = SettingInfo(help=help, env=env, flag=flag, secret=secret, worker=worker, asked=asked, locates=locates)
    options: dict[str, Any] = {
        "metadata": {_KEY: info},
        "validator": validator,
        "converter": converter,
        "kw_only": True,
    }
    options["repr"] = not secret
    if factory is not None:
        options["factory"] = factory
    else:
        options["default"] = default
    return attrs.field(**options)


def setting_info(field: attrs.Attribute[Any]) -> SettingInfo:
    """Return the `SettingInfo` of a field of a settings class; an empty one for a plain attrs field."""
    info = field.metadata.get(_KEY)
    if isinstance(info, SettingInfo):
        return info
    declared = constraint_info(field)
    return SettingInfo(help="" if declared is None else declared.help)


@attrs.frozen
class NoSettings:
    """Settings of a backend without any."""
