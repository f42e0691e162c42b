"""The ``local:`` section of the configuration."""

from __future__ import annotations

from pathlib import Path

import attrs

from cloud_tasks.model import Money
from cloud_tasks.plugin import setting

__all__ = ["LocalSettings"]


def _absolute(value: str | Path) -> Path:
    return Path(value).expanduser().absolute()


def _money(value: Money | str | float) -> Money:
    return value if isinstance(value, Money) else Money(value)


def _positive(instance: object, attribute: attrs.Attribute[object], value: float | None) -> None:
    if value is not None and not value > 0:
        raise ValueError(f"{value} is not above zero")


def _not_negative(instance: object, attribute: attrs.Attribute[object], value: float | Money) -> None:
    if (value.usd if isinstance(value, Money) else value) < 0:
        raise ValueError(f"{value} is below zero")


@attrs.frozen(kw_only=True)
class LocalSettings:
    """What can be said about this machine as a provider.

    A relative ``state_dir`` is made absolute when the settings are read, against the directory in which the command
    was started, so that queue, compute and workers mean the same folder.
    """

    state_dir: Path = setting(
        help="Folder of queues and instances",
        default=Path(".cloud-tasks"),
        converter=_absolute,
        worker=True,
        flag="--local-state-dir",
    )
    price_per_cpu_hour: Money = setting(
        help="Price of one CPU for one hour in US dollars, to simulate costs",
        default=Money(0),
        converter=_money,
        validator=_not_negative,
    )
    spot_price_factor: float = setting(
        help="Price of a spot instance as a share of the on-demand price", default=0.4, validator=_not_negative
    )
    vcpus: int | None = setting(
        help="Number of CPUs that the largest instance type has; this machine's when not given",
        default=None,
        validator=_positive,
    )
    memory_gb: float | None = setting(
        help="Memory of the largest instance type in GB; this machine's when not given",
        default=None,
        validator=_positive,
    )
    spot_mean_lifetime: float | None = setting(
        help="Mean lifetime of a spot instance in seconds, to simulate interruptions; none when not given",
        default=None,
        validator=_positive,
    )
    spot_notice: float = setting(
        help="Seconds between the termination notice and the end of a spot instance",
        default=30.0,
        validator=_not_negative,
    )
    shutdown_grace: float = setting(
        help="Seconds that an instance's processes have to end before they are killed",
        default=5.0,
        validator=_not_negative,
    )
