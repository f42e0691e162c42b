"""The ``local:`` section of the configuration."""

from __future__ import annotations

from pathlib import Path

import attrs

from cloud_tasks.model import Money
from cloud_tasks.plugin import check_folder, setting

__all__ = ["LocalSettings"]


def _absolute(value: str | Path) -> Path:
    return Path(value).expanduser().absolute()


def _money(value: Money | str | float) -> Money:
    return value if isinstance(value, Money) else Money(value)


def _usable(instance: object, attribute: attrs.Attribute[object], value: Path) -> None:
    check_folder(value)


def _positive(instance: object, attribute: attrs.Attribute[object], value: float | None) -> None:
    if value is not None and not value > 0:
        raise ValueError(f"must be greater than 0, got {value}")


def _not_negative(instance: object, attribute: attrs.Attribute[object], value: float | Money) -> None:
    if (value.usd if isinstance(value, Money) else value) < 0:
        raise ValueError(f"must be 0 or more, got {value}")


@attrs.frozen(kw_only=True)
class LocalSettings:
    """Settings of this machine as a provider.

    ``state_dir`` becomes absolute when the settings are read, so that queue, compute and workers use the same folder.
    """

    state_dir: Path = setting(
        help="Folder of queues and instances",
        default=Path(".cloud-tasks"),
        converter=_absolute,
        validator=_usable,
        worker=True,
        flag="--local-state-dir",
        locates=True,
    )
    price_per_cpu_hour: Money = setting(
        help="Simulated price per CPU hour in US dollars",
        default=Money(0),
        converter=_money,
        validator=_not_negative,
    )
    spot_price_factor: float = setting(
        help="Spot price as a fraction of the on-demand price", default=0.4, validator=_not_negative
    )
    vcpus: int | None = setting(
        help="Number of CPUs of the largest instance type (default: all CPUs of this machine)",
        default=None,
        validator=_positive,
    )
    memory_gb: float | None = setting(
        help="Memory of the largest instance type in GB (default: all memory of this machine)",
        default=None,
        validator=_positive,
    )
    spot_mean_lifetime: float | None = setting(
        help="Mean time to a simulated spot interruption in seconds (default: no interruptions)",
        default=None,
        validator=_positive,
    )
    spot_notice: float = setting(
        help="Time from a simulated spot interruption notice to the termination, in seconds",
        default=30.0,
        validator=_not_negative,
    )
    shutdown_grace: float = setting(
        help="Grace period between SIGTERM and SIGKILL of an instance's processes, in seconds",
        default=5.0,
        validator=_not_negative,
    )
