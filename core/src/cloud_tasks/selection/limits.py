"""Finds limits and constraints that no fleet could satisfy, before anything is asked of a provider."""

from __future__ import annotations

from typing import Any

import attrs

from cloud_tasks.model import Constraints, Limits, Money

__all__ = ["LimitProblem", "check_limits"]


@attrs.frozen(kw_only=True)
class LimitProblem:
    """Something that the user asked for and that can never be."""

    keys: tuple[str, ...]
    """The configuration keys that contradict each other, or the one whose value is impossible."""
    message: str

    def __str__(self) -> str:
        return self.message


_LIMIT_PAIRS = ("instances", "total_cpus", "simultaneous_tasks", "total_price_per_hour")
_CONSTRAINT_PAIRS = (
    "cpu",
    "cpu_rank",
    "total_memory",
    "memory_per_cpu",
    "memory_per_task",
    "local_ssd",
    "local_ssd_per_cpu",
    "local_ssd_per_task",
    "gpus",
    "tasks_per_instance",
)
_ABOVE_ZERO = (
    "max_instances",
    "max_total_cpus",
    "max_simultaneous_tasks",
    "max_total_price_per_hour",
    "max_total_cost",
    "max_cpu",
    "max_tasks_per_instance",
    "cpus_per_task",
)
_SIZES = (
    "total_boot_disk_size",
    "boot_disk_base_size",
    "boot_disk_per_cpu",
    "boot_disk_per_task",
    "local_ssd_base_size",
)


def check_limits(limits: Limits, constraints: Constraints) -> tuple[LimitProblem, ...]:
    """Everything that contradicts itself; empty: nothing does."""
    values = {**attrs.asdict(limits, recurse=False), **attrs.asdict(constraints, recurse=False)}
    problems: list[LimitProblem] = []
    for key, value in values.items():
        if key in _ABOVE_ZERO:
            if value is not None and _number(value) <= 0:
                problems.append(LimitProblem(keys=(key,), message=f"{key} is {_show(value)}; it has to be above zero"))
        elif (key.startswith(("min_", "max_")) or key in _SIZES) and value is not None and _number(value) < 0:
            problems.append(LimitProblem(keys=(key,), message=f"{key} is {_show(value)}; it cannot be below zero"))
    for name in (*_LIMIT_PAIRS, *_CONSTRAINT_PAIRS):
        _compare(problems, values, f"min_{name}", f"max_{name}")
    if not problems:
        _check_reach(problems, limits, constraints)
    return tuple(problems)


def _compare(problems: list[LimitProblem], values: dict[str, Any], lower: str, upper: str) -> None:
    """Note it when the value that has to be lower is not."""
    low, high = values[lower], values[upper]
    if low is not None and high is not None and _number(low) > _number(high):
        message = f"{lower} {_show(low)} is more than {upper} {_show(high)}"
        problems.append(LimitProblem(keys=(lower, upper), message=message))


def _check_reach(problems: list[LimitProblem], limits: Limits, constraints: Constraints) -> None:
    """What the limits mean together: a bound for the whole fleet against what its instances come to."""
    values = {**attrs.asdict(limits, recurse=False), **attrs.asdict(constraints, recurse=False)}
    _compare(problems, values, "min_cpu", "max_total_cpus")
    _compare(problems, values, "min_tasks_per_instance", "max_simultaneous_tasks")
    for number, each, bound in (
        ("max_instances", "max_cpu", "min_total_cpus"),
        ("max_instances", "max_tasks_per_instance", "min_simultaneous_tasks"),
        ("min_instances", "min_cpu", "max_total_cpus"),
        ("min_instances", "min_tasks_per_instance", "max_simultaneous_tasks"),
    ):
        if None in (values[number], values[each], values[bound]):
            continue
        total = values[number] * values[each]
        is_least = bound.startswith("min_")
        broken = total < values[bound] if is_least else total > values[bound]
        relation = "less" if is_least else "more"
        if broken:
            product = f"{number} {values[number]} x {each} {values[each]} = {total}"
            message = f"{product} is {relation} than {bound} {values[bound]}"
            problems.append(LimitProblem(keys=(number, each, bound), message=message))


def _number(value: Any) -> Any:
    return value.usd if isinstance(value, Money) else value


def _show(value: Any) -> str:
    return value.format() if isinstance(value, Money) else f"{value:g}"
