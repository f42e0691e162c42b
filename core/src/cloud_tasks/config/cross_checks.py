"""Checks of the merged ``run`` values against each other; each problem names all values and where they were written."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

from cloud_tasks.config.merge import Merged
from cloud_tasks.config.program import parse_program
from cloud_tasks.config.provenance import Layer
from cloud_tasks.config.run_settings import RunSettings
from cloud_tasks.config.startup_script import script_path
from cloud_tasks.config.values import show
from cloud_tasks.errors import InputError
from cloud_tasks.folders import check_folder
from cloud_tasks.model import pairs

__all__ = ["check_together", "region_of_zone"]

_AT_MOST = (
    ("min_instances", "max_total_cpus"),
    ("min_instances", "max_simultaneous_tasks"),
    ("min_cpu", "max_total_cpus"),
    ("min_instances * min_cpu", "max_total_cpus"),
    ("min_total_cpus", "max_instances * max_cpu"),
    ("min_tasks_per_instance", "max_simultaneous_tasks"),
    ("min_instances * min_tasks_per_instance", "max_simultaneous_tasks"),
    ("min_simultaneous_tasks", "max_instances * max_tasks_per_instance"),
    ("min_memory_per_cpu", "max_total_memory"),
    ("min_cpu * min_memory_per_cpu", "max_total_memory"),
    ("min_total_memory", "max_cpu * max_memory_per_cpu"),
    ("min_memory_per_task", "max_total_memory"),
    ("min_tasks_per_instance * min_memory_per_task", "max_total_memory"),
    ("min_total_memory", "max_tasks_per_instance * max_memory_per_task"),
    ("local_ssd_base_size", "max_local_ssd"),
    ("local_ssd_base_size + min_local_ssd_per_cpu", "max_local_ssd"),
    ("local_ssd_base_size + min_cpu * min_local_ssd_per_cpu", "max_local_ssd"),
    ("min_local_ssd", "local_ssd_base_size + max_cpu * max_local_ssd_per_cpu"),
    ("local_ssd_base_size + min_local_ssd_per_task", "max_local_ssd"),
    ("local_ssd_base_size + min_tasks_per_instance * min_local_ssd_per_task", "max_local_ssd"),
    ("min_local_ssd", "local_ssd_base_size + max_tasks_per_instance * max_local_ssd_per_task"),
)
"""The left side must not exceed the right side: an instance has at least one CPU and one task."""

_AT_MOST_BY_CPUS = (
    ("cpus_per_task", "max_cpu"),
    ("cpus_per_task", "max_total_cpus"),
    ("min_instances * cpus_per_task", "max_total_cpus"),
    ("min_simultaneous_tasks * cpus_per_task", "max_total_cpus"),
    ("min_simultaneous_tasks * cpus_per_task", "max_instances * max_cpu"),
)
"""The same without ``min_tasks_per_instance``, when the CPUs of an instance limit its tasks."""

_PROGRAMS = ("program", "command", "startup_script", "startup_script_file")
"""What instances run: one of them."""

_ZONE_FORMS = (
    re.compile(r"([a-z]+-[a-z]+[0-9]+)-[a-z]"),  # us-central1-a
    re.compile(r"([a-z]{2}(?:-[a-z]+)+-[0-9])[a-z]"),  # us-east-1a
    re.compile(r"([a-z]{6}[a-z0-9]*)-[0-9]"),  # eastus-1; the region names of Azure have at least 6 letters
)


def region_of_zone(zone: str) -> str | None:
    """Return the region in a zone's name; None if the name has none (``1``, ``us-west-2-lax-1a``)."""
    for form in _ZONE_FORMS:
        if match := form.fullmatch(zone):
            return match.group(1)
    return None


def check_together(run: RunSettings, merged: Merged, base_dir: Path) -> Iterator[InputError]:
    """Yield contradictions between values, and a startup script that does not exist."""
    contradictions = [
        problem for pair in pairs(RunSettings) for problem in _check_pair(run, merged, f"min_{pair}", f"max_{pair}")
    ]
    yield from contradictions or _check_reach(run, merged)
    given = [key for key in _PROGRAMS if getattr(run, key) is not None]
    for key in given[1:]:
        yield InputError(
            f"run.{key}: run.{given[0]} is also set ({merged.source(f'run.{given[0]}')})",
            where=merged.place(f"run.{key}"),
            hint="set one of them",
        )
    yield from _check_program(run, merged, base_dir)
    if run.startup_script_file is not None:
        origin = merged.origins.get("run.startup_script_file")
        path = script_path(run.startup_script_file, origin, base_dir)
        if not path.is_file():
            message = f"run.startup_script_file: file not found: {path}"
            yield InputError(message, where=merged.place("run.startup_script_file"))
    yield from _check_stores(run, merged, base_dir)
    if run.zone and run.region and region_of_zone(run.zone) not in (None, run.region):
        yield InputError(
            f'run.zone: "{run.zone}" is not in the region "{run.region}" ({merged.source("run.region")})',
            where=merged.place("run.zone"),
        )


def _check_program(run: RunSettings, merged: Merged, base_dir: Path) -> Iterator[InputError]:
    """Yield a program that does not exist, and keys that only a program or a command uses."""
    if run.program is not None:
        origin = merged.origins.get("run.program")
        folder = base_dir if origin is not None and origin.is_in_file else Path.cwd()
        try:
            parse_program(run.program, folder=folder, base_dir=base_dir, where=merged.place("run.program"))
        except InputError as error:
            yield error
    if run.program is None and run.command is None:
        for key in ("requirements", "ship", "setup"):
            if getattr(run, key):
                yield InputError(
                    f"run.{key}: only for run.program and run.command",
                    where=merged.place(f"run.{key}"),
                    hint="set run.program, or let the startup script do this",
                )


def _check_stores(run: RunSettings, merged: Merged, base_dir: Path) -> Iterator[InputError]:
    """Yield stores that are files here; permissions are those of the instances, whose workers check them."""
    for key in ("log_store", "result_store"):
        store = getattr(run, key)
        if store and "://" not in store:
            try:
                origin = merged.origins.get(f"run.{key}")
                folder = base_dir if origin is not None and origin.is_in_file else Path.cwd()
                check_folder(folder / store, permissions=False)
            except ValueError as error:
                yield InputError(f"run.{key}: {error}", where=merged.place(f"run.{key}"))


def _check_pair(run: RunSettings, merged: Merged, lower: str, upper: str) -> Iterator[InputError]:
    low, high = getattr(run, lower), getattr(run, upper)
    if low is None or high is None or low <= high:
        return
    # The value written last is the likelier mistake.
    first, second = (lower, upper) if _layer(merged, lower) > _layer(merged, upper) else (upper, lower)
    relation = "less" if first == upper else "more"
    message = (
        f"run.{first}: {show(getattr(run, first))} is {relation} than {second}, "
        f"{show(getattr(run, second))} ({merged.source(f'run.{second}')})"
    )
    yield InputError(message, where=merged.place(f"run.{first}"))


def _check_reach(run: RunSettings, merged: Merged) -> Iterator[InputError]:
    """Yield limits that no fleet can satisfy, at most one problem for each key."""
    reported: set[str] = set()
    relations = _AT_MOST if run.min_tasks_per_instance else (*_AT_MOST, *_AT_MOST_BY_CPUS)
    for left, right in relations:
        keys = re.findall(r"[a-z_]+", f"{left} {right}")
        if any(getattr(run, key) is None for key in keys) or reported.intersection(keys):
            continue
        low, high = _amount(run, left), _amount(run, right)
        if low <= high:
            continue
        reported.update(keys)
        last = max(keys, key=lambda key: (_layer(merged, key), _line(merged, key)))
        if " " in right and " " not in left:
            message = f"{_shown(run, right)} is less than {_shown(run, left)}"
        else:
            message = f"{_shown(run, left)} is more than {_shown(run, right)}"
        others = ", ".join(f"{key} ({merged.source(f'run.{key}')})" for key in dict.fromkeys(keys) if key != last)
        yield InputError(
            f"run.{last}: {message}", where=merged.place(f"run.{last}"), hint=f"change it, or one of {others}"
        )


def _amount(run: RunSettings, text: str) -> Decimal:
    """Return the value of a sum of products of keys."""
    products = [[Decimal(str(getattr(run, key))) for key in term.split(" * ")] for term in text.split(" + ")]
    return sum((math.prod(factors, start=Decimal(1)) for factors in products), start=Decimal(0))


def _shown(run: RunSettings, text: str) -> str:
    """Return the keys with their values, and the result."""
    # A base of 0 is left out.
    terms = [term for term in text.split(" + ") if getattr(run, term.split(" * ")[0])] or [text]
    shown = " + ".join(" × ".join(f"{key} {show(getattr(run, key))}" for key in term.split(" * ")) for term in terms)
    return f"{shown} = {_amount(run, text).normalize():f}" if " × " in shown or " + " in shown else shown


def _line(merged: Merged, key: str) -> int:
    line = merged.place(f"run.{key}").rpartition(":")[2]
    return int(line) if line.isdigit() else 0


def _layer(merged: Merged, key: str) -> Layer:
    origin = merged.origins.get(f"run.{key}")
    return Layer.DEFAULT if origin is None else origin.layer
