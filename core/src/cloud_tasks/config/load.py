"""`load_config`: from file, environment and command line to a `JobConfig`. Reading never writes."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from cloud_tasks.config.cross_checks import check_together, region_of_zone
from cloud_tasks.config.job_config import JobConfig
from cloud_tasks.config.layers import Layers, Problem
from cloud_tasks.config.merge import Merged, check_values, merge
from cloud_tasks.config.run_settings import RunSettings
from cloud_tasks.config.sections import (
    BACKEND_AXES,
    Section,
    advice,
    find_sections,
    run_section,
    variable_name,
)
from cloud_tasks.config.trait_checks import check_traits
from cloud_tasks.config.yaml_reader import read_document
from cloud_tasks.errors import InputError
from cloud_tasks.registry import REMOVED_SINKS, Registry

__all__ = ["ConfigurationError", "load_config"]


class ConfigurationError(InputError):
    """Everything that is wrong with a configuration: one line for each problem."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        first = problems[0]
        super().__init__(first.message, where=first.where, hint=first.hint)
        self.problems = tuple(str(problem) for problem in problems)

    def __str__(self) -> str:
        return "\n".join(self.problems)


def load_config(
    registry: Registry,
    *,
    file: Path | None,
    options: Mapping[str, Any],
    sets: Sequence[str] = (),
    environ: Mapping[str, str],
) -> JobConfig:
    """Read and merge all layers, then check the result.

    Args:
        file: The configuration file; None: there is none.
        options: Command-line values by dotted key (``provider``, ``run.min_cpu``, ``gcp.project_id``), or by flag
            (``--project-id``) where the plugin that was chosen decides whose it is. Text is read by the key's type;
            None means not given.
        sets: ``section.key=value`` texts; they win over ``options``.
        environ: The environment.

    Raises:
        InputError: Anything is wrong with what was written.
    """
    run, sections = run_section(), find_sections(registry)
    for name in REMOVED_SINKS:
        sections.setdefault(name, Section(name=name, keys={}, is_open=True))
    layers = Layers(run, sections)
    if file is not None:
        layers.add_file(file, read_document(file))
    layers.add_environment(environ)
    layers.add_options({name: value for name, value in options.items() if not name.startswith("--")})
    layers.add_sets(sets)
    top = merge((one for one in layers.statements if not one.section), run, sections, selected=None)
    backends = _backends(top)
    flags = {name: value for name, value in options.items() if name.startswith("--") and value is not None}
    layers.add_options(_place_flags(flags, sections, [*backends.values(), *top.values.get("event_sinks", ())], layers))
    merged = merge(layers.statements, run, sections, selected=backends.get("compute"))
    problems = [*layers.problems, *merged.problems, *_check_names(merged, registry, sections)]
    if file is not None:
        problems.extend(_check_secrecy(merged, file))
    for section in (run, *sections.values()):
        problems.extend(check_values(merged, section))
    _derive_region(merged)
    base_dir = file.absolute().parent if file is not None else Path.cwd()
    settings = RunSettings() if problems else RunSettings(**merged.within("run"))
    if not problems:
        problems.extend(check_together(settings, merged, base_dir))
        problems.extend(check_traits(settings, merged, backends, registry))
    if problems:
        raise ConfigurationError(sorted(problems, key=_line))
    in_use = {"", "run", *backends.values(), *merged.values.get("event_sinks", ())}
    return JobConfig(
        file=file,
        base_dir=base_dir,
        provider=_lower(merged.values.get("provider")),
        backends=backends,
        event_sinks=merged.values.get("event_sinks", ()),
        task_source=merged.values.get("task_source"),
        run=settings,
        origins=merged.origins,
        overrides=tuple(one for one in merged.overrides if one.key.rpartition(".")[0] in in_use),
        exposed=tuple(merged.exposed),
        values={name: given for name in sections if (given := merged.within(name))},
        sections=sections,
        registry=registry,
    )


def _lower(name: str | None) -> str | None:
    return name.strip().lower() if name else None


def _backends(top: Merged) -> dict[str, str]:
    """The chosen plugin of each axis."""
    chosen = {axis: _lower(top.values.get(axis) or top.values.get("provider")) for axis in BACKEND_AXES}
    return {axis: name for axis, name in chosen.items() if name}


def _line(problem: Problem) -> tuple[str, int]:
    """By line within a file; problems elsewhere keep their order, after those of the file."""
    place, _, line = problem.where.rpartition(":")
    return (place, int(line)) if place and line.isdigit() else ("\uffff", 0)


def _place_flags(
    flags: Mapping[str, Any], sections: Mapping[str, Section], selected: Iterable[str], layers: Layers
) -> dict[str, Any]:
    """Flags of plugins by the dotted keys that they set: the chosen plugins', or all where none is chosen."""
    chosen = list(dict.fromkeys(selected))
    placed: dict[str, Any] = {}
    for flag, value in flags.items():
        owners = [
            f"{section.name}.{key.name}"
            for section in sections.values()
            for key in section.keys.values()
            if key.info.flag == flag
        ]
        fitting = [name for name in owners if not chosen or name.partition(".")[0] in chosen]
        if not fitting:
            whose = " or ".join(name.partition(".")[0] for name in owners) or "no installed plugin"
            hint = "leave it out, or choose another provider"
            layers.problems.append(Problem(message=f"it belongs to {whose}, not to {chosen[0]}", where=flag, hint=hint))
        placed.update(dict.fromkeys(fitting, value))
    return placed


def _check_secrecy(merged: Merged, file: Path) -> Iterable[Problem]:
    """Secrets stand only in a file that nobody else can read."""
    if not stat.S_IMODE(file.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO):
        return
    for name, origin in merged.in_file.items():
        hint = f"chmod 600 {file}, or give it as {variable_name(*name.split('.', 1))}"
        yield Problem(message=f"{name}: a secret in a file that others can read", where=origin.place, hint=hint)


def _check_names(merged: Merged, registry: Registry, sections: Mapping[str, Section]) -> Iterable[Problem]:
    """Names that no plugin has. One that is merely not installed, or broken, is told by the command that needs it."""
    everywhere = {name for axis in BACKEND_AXES for name in registry.names(axis)}
    absent = {name for name, section in sections.items() if section.is_open and section.takes_run_keys}
    for key in ("provider", *BACKEND_AXES):
        name = _lower(merged.values.get(key))
        known = everywhere if key == "provider" else set(registry.names(key))
        if name is not None and name not in known | absent:
            hint = advice(name, known | absent) or f"installed: {', '.join(sorted(known)) or 'none'}"
            message = f'{key}: there is no {"provider" if key == "provider" else key + " plugin"} "{name}"'
            yield Problem(message=message, where=merged.place(key), hint=hint)
    sinks = registry.names("event_sink")
    absent = {name for name, section in sections.items() if section.is_open} - REMOVED_SINKS.keys()
    places = dict.fromkeys(merged.values.get("event_sinks", ()), "event_sinks")
    for name in REMOVED_SINKS.keys() - places.keys():
        if keys := list(merged.within(name)):
            places[name] = f"{name}.{keys[0]}"
    for name, key in places.items():
        if name not in (*sinks, *absent):
            hint = REMOVED_SINKS.get(name) or advice(name, sinks) or f"installed: {', '.join(sinks) or 'none'}"
            message = f'{key.partition(".")[0]}: there is no event sink "{name}"'
            yield Problem(message=message, where=merged.place(key), hint=hint)


def _derive_region(merged: Merged) -> None:
    """Fill in the region from the zone, where it was not given and the zone's name tells it."""
    zone = merged.values.get("run.zone")
    region = region_of_zone(zone) if zone and merged.values.get("run.region") is None else None
    if region is not None:
        source = merged.origins["run.zone"]
        merged.values["run.region"] = region
        merged.origins["run.region"] = attrs.evolve(source, place=source.place)
