"""How a plugin describes its configuration section: a frozen attrs class whose fields are made by `setting`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from cloud_tasks.model.constraints import constraint_info

__all__ = ["NoSettings", "SettingInfo", "setting", "setting_info"]

_KEY = "cloud_tasks.setting"


@attrs.frozen(kw_only=True)
class SettingInfo:
    """What the configuration and the command line know about one setting besides its type and default."""

    help: str
    """One line, without a full stop; for a quantity it names the unit."""
    env: str | None = None
    """An environment variable that sets it, beside ``CLOUD_TASKS_<SECTION>_<KEY>``, which always does."""
    flag: str | None = None
    """The command-line flag, e.g. ``--project-id``; None: reachable by ``--set section.key=value`` only."""
    secret: bool = False
    """Never shown, logged, stored, or passed to an instance."""
    worker: bool = False
    """Whether a worker on an instance needs it; it is then exported to the startup script (never a secret)."""
    asked: bool = False
    """Whether ``init`` asks for it, since few jobs go without; it always does for one without a default."""


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
    validator: Any = None,
    converter: Any = None,
) -> Any:
    """A field of a settings class; the arguments are those of `SettingInfo` and of `attrs.field`.

    A validator raises `ValueError` with a message that reads well after ``section.key: ``.
    """
    if secret and worker:
        raise TypeError("a secret is never passed to a worker")
    info = SettingInfo(help=help, env=env, flag=flag, secret=secret, worker=worker, asked=asked)
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
    """The `SettingInfo` of a field of a settings class; an empty one for a plain attrs field."""
    info = field.metadata.get(_KEY)
    if isinstance(info, SettingInfo):
        return info
    declared = constraint_info(field)
    return SettingInfo(help="" if declared is None else declared.help)


@attrs.frozen
class NoSettings:
    """For a backend that has nothing to configure."""
