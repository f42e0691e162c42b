"""Secret settings that workers need, and how each reaches them.

Invariants, each with a test:

1. A secret is in no script that core composes: the compute backend delivers it (`ComputeTraits.delivers_secrets`), it
   is shipped encrypted, or the user's startup script sets its variable.
2. No value is in a text of this module: an error names the setting and its variable.
"""

from __future__ import annotations

import attrs

from cloud_tasks.command_template import exports_variable
from cloud_tasks.config.job_config import JobConfig
from cloud_tasks.config.load import ConfigurationError
from cloud_tasks.config.secret_sources import undelivered_secrets
from cloud_tasks.config.sections import default_of, variable_name
from cloud_tasks.errors import InputError
from cloud_tasks.plugin import setting_info
from cloud_tasks.setting_values import format_setting

__all__ = ["SecretDelivery", "delivered_secrets", "secret_deliveries"]

_ALIAS = "RMS_"


@attrs.frozen(kw_only=True)
class SecretDelivery:
    """A secret with a value, which workers need, and the way by which they get it."""

    key: str
    """Dotted: ``redis.password``."""
    variable: str
    """Environment variable of the workers."""
    by_script: bool
    """Whether the startup script sets the variable."""
    is_shipped: bool = False
    """Whether it is shipped to the supervisor, encrypted; otherwise the compute backend delivers it."""
    value: str | None = attrs.field(default=None, repr=False)
    """Text of the variable; None if only the startup script sets it."""

    def describe(self, compute: str) -> str:
        """Return the way in one line."""
        way = "set by the startup script" if self.by_script else f'delivered by compute "{compute}"'
        way = "shipped to the workers, encrypted" if self.is_shipped else way
        return f"Secret {self.key}: {way}, as {self.variable}"


def delivered_secrets(config: JobConfig, *, shipped: bool = False) -> dict[str, str]:
    """Return the secrets for launch requests, by variable, or those that are shipped."""
    deliveries = secret_deliveries(config)
    return {each.variable: each.value for each in deliveries if each.value is not None and each.is_shipped == shipped}


def secret_deliveries(config: JobConfig) -> tuple[SecretDelivery, ...]:
    """Return how the workers get each secret that they need and that has a value.

    Without a startup script, only those that the compute backend delivers or that are shipped are returned.

    Raises:
        InputError: The startup script cannot be used.
        ConfigurationError: A secret would not reach the workers.
    """
    found = dict[str, SecretDelivery]()
    problems = [problem] if (problem := undelivered_secrets(config)) else []
    script = config.require_startup_script() if config.has_startup_script else None
    for section, field, kind, value in config.worker_settings(secret=True):
        if value is None or value == default_of(field):
            continue
        key, variable = f"{section}.{field.name}", variable_name(section, field.name)
        general = setting_info(field).env
        names = (variable, f"{_ALIAS}{variable}", *([general] if general else []))
        by_script = script is not None and any(exports_variable(script, name) for name in names)
        delivers = config.registry.compute(config.compute).traits.delivers_secrets
        if delivers or config.is_shipped:
            text = _text_of(value, kind, where=config.place(key), key=key)
            found[variable] = SecretDelivery(
                key=key, variable=variable, by_script=by_script, is_shipped=not delivers, value=text
            )
        elif by_script:
            found[variable] = SecretDelivery(key=key, variable=variable, by_script=True)
        elif script is not None:
            problems.append(_undelivered(key, variable, config))
    if problems:
        raise ConfigurationError(problems)
    return tuple(found.values())


def _undelivered(key: str, variable: str, config: JobConfig) -> InputError:
    return InputError(
        f'{key}: the workers need it, compute "{config.compute}" cannot deliver secrets, and the startup script '
        f"does not export {variable}",
        where=config.place(key),
        hint="add a line to the startup script that reads it from a secret store, such as: "
        f'export {variable}="$(COMMAND)"',
    )


def _text_of(value: object, kind: object, *, where: str, key: str) -> str:
    """Return the text of the variable."""
    try:
        return format_setting(value, kind)
    except ValueError:
        reason = "this value cannot be passed to a worker (it is a secret and not shown)"
        raise InputError(f"{key}: {reason}", where=where) from None
