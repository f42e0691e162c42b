"""Settings: section ``slurm:`` of the configuration."""

from __future__ import annotations

from pathlib import Path

import attrs

from cloud_tasks.model import Money
from cloud_tasks.plugin import Seconds, setting

__all__ = ["SlurmSettings"]

_HERE = Path(".cloud-tasks-slurm")


def _not_negative(_: object, field: object, value: Money) -> None:
    if value < Money("0"):
        raise ValueError("must not be negative")


@attrs.frozen(kw_only=True)
class SlurmSettings:
    """A field for each key, as ``cloud-tasks plugins show slurm`` prints them."""

    partitions: tuple[str, ...] = setting(help="Partitions (default: the cluster's default)", default=(), asked=True)
    spot_partitions: tuple[str, ...] = setting(help="Partitions whose jobs are preempted, for spot", default=())
    sbatch_options: tuple[str, ...] = setting(help="Further options of sbatch: --account=physics", default=())
    output_dir: Path = setting(help="Folder of the jobs' output, shared by all nodes", default=_HERE, asked=True)
    conf_file: Path | None = setting(help="Slurm's configuration", default=None, env="SLURM_CONF", locates=True)
    price_per_cpu_hour: Money = setting(help="US dollars per CPU hour", default=Money("0"), validator=_not_negative)
    command_timeout: Seconds = setting(help="Time limit of Slurm's commands in seconds", default=45.0, worker=True)
    notice_interval: Seconds = setting(help="Interval of queries for notices in seconds", default=20.0, worker=True)
