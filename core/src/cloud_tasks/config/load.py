"""`load_config`: file, environment and command line, merged and checked into a `JobConfig`.

Invariants, each with a test:

1. Loading writes nothing and opens no backend.
2. All problems are reported together, one line each, in the order of the file.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cloud_tasks.config.cross_checks import check_together, region_of_zone
from cloud_tasks.config.job_config import JobConfig
from cloud_tasks.config.layers import Layers
from cloud_tasks.config.merge import Merged, check_section
from cloud_tasks.config.program import job_name
from cloud_tasks.config.provenance import Assignment, Layer, Provenance
from cloud_tasks.config.run_settings import RunSettings
from cloud_tasks.config.sections import (
    PROVIDER_KINDS,
    Section,
    advice,
    find_sections,
    run_section,
    variable_name,
)
from cloud_tasks.config.setup_record import read_record
from cloud_tasks.config.trait_checks import check_traits
from cloud_tasks.config.yaml_reader import read_document
from cloud_tasks.errors import InputError, PluginError
from cloud_tasks.registry import REMOVED_SINKS, Registry

__all__ = ["ConfigurationError", "choose_backends", "load_config"]


class ConfigurationError(InputError):
    """All problems of a configuration, one line each."""

    def __init__(self, problems: Sequence[InputError]) -> None:
        first = problems[0]
        super().__init__(first.message, hint=first.hint)
        self.where = first.where
        self.problems = tuple(map(str, problems))

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
    """Read, merge and check all layers.

    Args:
        file: The configuration file; None for none.
        options: Command-line values by dotted key (``provider``, ``run.min_cpu``, ``gcp.project_id``), or by flag
            (``--project-id``) if the chosen plugin decides which key it sets. Text is read by the key's type; None
            means not given.
        sets: ``section.key=value`` texts, which rank above ``options``.
        environ: The environment.

    Raises:
        InputError: The file cannot be read.
        ConfigurationError: A key or value is invalid.
    """
    run, sections = run_section(), find_sections(registry)
    for name in REMOVED_SINKS:
        sections.setdefault(name, Section(name=name, keys={}, is_open=True))
    folder = _folder_of(file)
    layers, merged = (
        Layers(run, sections),
        Merged(run=run, sections=sections, folder=folder),
    )
    if file is not None:
        layers.add_file(file, read_document(file))
    layers.add_environment(environ)
    layers.add_options({name: value for name, value in options.items() if not name.startswith("--")})
    layers.add_sets(sets)
    # Keys at the top first: the chosen plugins decide which keys the other assignments set.
    merged.assign(layers.assignments(top=True))
    backends = choose_backends({key: merged.values.get(key) for key in ("provider", *PROVIDER_KINDS)}, registry)
    sinks = merged.values.get("event_sinks", ())
    _add_flags(layers, options, sections, tuple(dict.fromkeys((*backends.values(), *sinks))))
    merged.assign(layers.assignments(top=False), selected=backends.get("compute"))
    _add_recorded(merged, layers, backends.get("compute"), environ)
    base_dir = folder.absolute()
    problems = [*layers.problems, *_check(merged, registry, file)]
    _derive_region(merged)
    _derive_job(merged)
    settings = RunSettings() if problems else RunSettings(**merged.within("run"))
    if not problems:
        problems += [*check_together(settings, merged, base_dir), *check_traits(settings, merged, backends, registry)]
    if problems:
        raise ConfigurationError(sorted(problems, key=_line))
    in_use = {"", "run", *backends.values(), *sinks}
    return JobConfig(
        file=file,
        folder=folder,
        base_dir=base_dir,
        provider=_lower(merged.values.get("provider")),
        backends=backends,
        event_sinks=sinks,
        task_source=merged.values.get("task_source"),
        run=settings,
        origins=merged.origins,
        overrides=tuple(one for one in merged.overrides if one.key.rpartition(".")[0] in in_use),
        exposed=tuple(merged.exposed),
        secrets_in_file=dict(merged.in_file),
        values={name: given for name in sections if (given := merged.within(name))},
        sections=sections,
        registry=registry,
    )


def _folder_of(file: Path | None) -> Path:
    """Return the folder of paths and defaults: that of the file, which a pipe or ``/dev/stdin`` does not have."""
    if file is None or file.is_fifo() or file.absolute().parts[1:2] in (("dev",), ("proc",)):
        return Path()
    return file.parent


def _lower(name: str | None) -> str | None:
    return name.strip().lower() if name else None


def choose_backends(given: Mapping[str, str | None], registry: Registry) -> dict[str, str]:
    """Return the name of the chosen backend of each kind; a kind without a choice is left out.

    A provider is chosen for the kinds that it has, or for all where it is not installed. Prices are those of the
    compute backend where it has some: a cloud's prices say nothing about the instances of another.

    Args:
        given: Names as written, by ``provider`` or a kind.
    """
    names = {key: _lower(name) for key, name in given.items()}
    provider, compute = names.get("provider"), names.get("compute")
    has = {kind: registry.names(kind) for kind in PROVIDER_KINDS}
    is_known = any(provider in found for found in has.values())
    chosen = {}
    for kind in PROVIDER_KINDS:
        name = names.get(kind) or (compute if kind == "pricing" and compute in has[kind] else None)
        if name is None and (provider in has[kind] or not is_known):
            name = provider
        if name:
            chosen[kind] = name
    return chosen


def _line(problem: InputError) -> tuple[str, int]:
    """Sort by line of the file; other problems follow in their order."""
    place, _, line = problem.where.rpartition(":")
    return (place, int(line)) if place and line.isdigit() else ("\uffff", 0)


def _add_flags(
    layers: Layers, options: Mapping[str, Any], sections: Mapping[str, Section], chosen: Sequence[str]
) -> None:
    """Add flags of plugins to the keys that they set: those of the chosen plugins, or of all if none is chosen."""
    for flag, value in options.items():
        if not flag.startswith("--") or value is None:
            continue
        owners = [
            f"{section.name}.{key.name}"
            for section in sections.values()
            for key in section.keys.values()
            if key.info.flag == flag
        ]
        targets = [name for name in owners if not chosen or name.partition(".")[0] in chosen]
        if not targets:
            plugins = " or ".join(name.partition(".")[0] for name in owners) or "no installed plugin"
            hint = "remove it, or choose another provider"
            layers.problems.append(InputError(f"an option of {plugins}, not of {chosen[0]}", where=flag, hint=hint))
        layers.add_options(dict.fromkeys(targets, value))


def _add_recorded(merged: Merged, layers: Layers, compute: str | None, environ: Mapping[str, str]) -> None:
    """Add what setup has recorded for the chosen instances, where nothing else is written."""
    try:
        record = read_record(compute, environ) if compute else None
    except InputError as error:
        layers.problems.append(error)
        return
    if record is not None:
        origin = Provenance(layer=Layer.SETUP, place=str(record.file))
        # A zone determines the region.
        written = {**merged.values, **({"run.region": None} if merged.values.get("run.zone") else {})}
        recorded = (
            Assignment(section=section, key=key, value=value, provenance=origin)
            for name, value in record.values(written).items()
            for section, _, key in [name.partition(".")]
        )
        known = {"run": merged.run, **merged.sections}
        merged.assign(one for one in recorded if one.section in known and one.key in known[one.section].keys)


def _check(merged: Merged, registry: Registry, file: Path | None) -> Iterator[InputError]:
    """Yield a problem for each invalid value."""
    yield from merged.problems
    yield from _check_backends(merged, registry)
    yield from _check_sinks(merged, registry)
    if file is not None:
        yield from _check_secrecy(merged, file)
    for section in (merged.run, *merged.sections.values()):
        yield from check_section(merged, section)


def _check_secrecy(merged: Merged, file: Path) -> Iterable[InputError]:
    """Yield a problem for each secret in a file that other users can read."""
    if not stat.S_IMODE(file.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO):
        return
    for name, origin in merged.in_file.items():
        hint = f"chmod 600 {file}, or set {variable_name(*name.split('.', 1))} instead"
        yield InputError(f"{name}: a secret in a file that others can read", where=origin.place, hint=hint)


def _check_backends(merged: Merged, registry: Registry) -> Iterable[InputError]:
    """Yield a problem for each unknown name. A missing or broken plugin fails in the commands that need it."""
    absent = {name for name, section in merged.sections.items() if section.is_open and section.takes_run_keys}
    for key in ("provider", *PROVIDER_KINDS):
        name = _lower(merged.values.get(key))
        kinds = PROVIDER_KINDS if key == "provider" else (key,)
        known = {name for kind in kinds for name in registry.names(kind)}
        if name is not None and name not in known | absent:
            hint = advice(name, known | absent) or f"installed: {', '.join(sorted(known)) or 'none'}"
            message = f'{key}: unknown {"provider" if key == "provider" else key + " plugin"} "{name}"'
            yield InputError(message, where=merged.place(key), hint=hint)


def _check_sinks(merged: Merged, registry: Registry) -> Iterable[InputError]:
    """Yield a problem for each event sink that is not installed, and for each section of a removed one."""
    places = dict.fromkeys(merged.values.get("event_sinks", ()), "event_sinks")
    for name in REMOVED_SINKS.keys() - places.keys():
        if keys := list(merged.within(name)):
            places[name] = f"{name}.{keys[0]}"
    found: dict[str, dict[tuple[str, str], list[str]]] = {}
    for name, key in places.items():
        try:
            registry.event_sink(name)
        except InputError as error:
            # Names with the same problem and the same remedy are named together.
            problem = (error.message.replace(f'"{name}"', "{names}", 1), error.hint)
            found.setdefault(key, {}).setdefault(problem, []).append(f'"{name}"')
        except PluginError:
            # A broken plugin is an error of the command that needs it.
            continue
    for key, problems in found.items():
        texts = [
            (message if len(names) == 1 else message.replace("event sink", "event sinks")).replace(
                "{names}", " and ".join(names), 1
            )
            for (message, _), names in problems.items()
        ]
        hints = [hint for _, hint in problems]
        earlier = [f"{text} ({hint})" for text, hint in zip(texts[:-1], hints[:-1], strict=True)]
        message = ", and ".join([*earlier, texts[-1]])
        yield InputError(f"{key.partition('.')[0]}: {message}", where=merged.place(key), hint=hints[-1])


def _derive_region(merged: Merged) -> None:
    """Set the region from the zone if it was not given and the zone's name contains it."""
    zone = merged.values.get("run.zone")
    region = region_of_zone(zone) if zone and merged.values.get("run.region") is None else None
    if region is not None:
        merged.values["run.region"] = region
        merged.origins["run.region"] = merged.origins["run.zone"]


def _derive_job(merged: Merged) -> None:
    """Set the job id from the program if it was not given."""
    program = merged.values.get("run.program")
    name = job_name(program) if program and merged.values.get("run.job_id") is None else None
    if name is not None:
        merged.values["run.job_id"] = name
        merged.origins["run.job_id"] = merged.origins["run.program"]
