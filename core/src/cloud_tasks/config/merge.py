"""Merges the layers: types each written value, lets the highest one win, and remembers what it replaced.

Invariants, each with a test:

1. Values are checked after merging only; a value that was replaced is asked for its type and nothing else.
2. No text of a secret is in an override or in a problem.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from cloud_tasks.config.layers import Problem, Statement
from cloud_tasks.config.provenance import MASK, Layer, Override, Provenance
from cloud_tasks.config.sections import Key, Section, default_of
from cloud_tasks.config.values import show, typed
from cloud_tasks.plugin.setting_kinds import describe, is_optional

__all__ = ["Merged", "check_values", "merge"]

_TOP_KINDS: Mapping[str, Any] = {"event_sinks": tuple[str, ...]}


@attrs.define(kw_only=True)
class Merged:
    """The winning values, by dotted key."""

    values: dict[str, Any] = attrs.field(factory=dict, repr=False)
    origins: dict[str, Provenance] = attrs.field(factory=dict)
    overrides: list[Override] = attrs.field(factory=list)
    exposed: list[str] = attrs.field(factory=list)
    """Keys of secrets that were given on the command line."""
    in_file: dict[str, Provenance] = attrs.field(factory=dict)
    """Keys of secrets that stand in the file, whether or not their values win."""
    problems: list[Problem] = attrs.field(factory=list)

    def within(self, section: str) -> dict[str, Any]:
        """The values of one section, by key."""
        prefix = f"{section}."
        return {name.removeprefix(prefix): value for name, value in self.values.items() if name.startswith(prefix)}

    def place(self, name: str) -> str:
        """Where the winning value was written; empty for a default."""
        return self.origins[name].place if name in self.origins else ""


def merge(
    statements: Iterable[Statement], run: Section, sections: Mapping[str, Section], *, selected: str | None
) -> Merged:
    """The merged values.

    Args:
        statements: In any order of layers; within a layer, later ones win.
        selected: The plugin in whose section keys of ``run`` hold.
    """
    merged = Merged()
    # Options come before --set, wherever they stood on the command line.
    for statement in sorted(statements, key=lambda one: (one.value.origin.layer, one.value.origin.place == "--set")):
        for target, key in _targets(statement, run, sections):
            held = target != f"run.{statement.key}" or statement.section in ("run", selected)
            _state(merged, statement, target, key, held=held)
    return merged


def _targets(statement: Statement, run: Section, sections: Mapping[str, Section]) -> list[tuple[str, Key | None]]:
    """The keys that a statement sets: a provider's section may name one of its own, one of ``run``, or both."""
    if not statement.section:
        return [(statement.key, None)]
    spec = run if statement.section == "run" else sections[statement.section]
    found: list[tuple[str, Key | None]] = []
    if statement.key in spec.keys:
        found.append((statement.name, spec.keys[statement.key]))
    if spec.takes_run_keys and statement.key in run.keys:
        found.append((f"run.{statement.key}", run.keys[statement.key]))
    return found or [(statement.name, None)]


def _state(merged: Merged, statement: Statement, target: str, key: Key | None, *, held: bool) -> None:
    origin = statement.value.origin
    # Without a key it is one of the top, or of a plugin that is not at hand: the latter may be a secret.
    secret = bool(statement.section) if key is None else key.secret
    kind = key.kind if key is not None else (Any if statement.section else _TOP_KINDS.get(statement.key, str))
    if statement.value.raw is None and not is_optional(kind):
        return
    try:
        value = typed(kind, statement.value)
    except (ValueError, TypeError) as error:
        reason = f"expected {describe(kind)} (what was given is a secret and not shown)" if secret else str(error)
        merged.problems.append(Problem(message=f"{statement.name}: {reason}", where=origin.place))
        return
    if not held:
        return
    if target in merged.values and merged.values[target] != value:
        merged.overrides.append(
            Override(
                key=target,
                value=MASK if secret else show(value),
                origin=origin,
                replaced=MASK if secret else show(merged.values[target]),
                replaced_origin=merged.origins[target],
            )
        )
    merged.values[target] = value
    merged.origins[target] = origin
    if not secret or key is None:
        return
    if origin.layer is Layer.COMMAND_LINE and target not in merged.exposed:
        merged.exposed.append(target)
    if origin.layer in (Layer.FILE, Layer.SECTION):
        merged.in_file.setdefault(target, origin)


def check_values(merged: Merged, section: Section) -> Iterator[Problem]:
    """Run the converters and validators of a section's given values."""
    given = merged.within(section.name)
    for cls in dict.fromkeys(cls for key in section.keys.values() for cls, _ in key.owners):
        bare = _bare(cls, given)
        for name, key in section.keys.items():
            for owner, field in key.owners:
                if owner is not cls or name not in given:
                    continue
                problem = _complaint(bare, field)
                if problem:
                    told = "this value cannot be used (it is a secret and not shown)" if key.secret else problem
                    place = merged.place(f"{section.name}.{name}")
                    yield Problem(message=f"{section.name}.{name}: {told}", where=place)


def _bare(cls: type[Any], given: Mapping[str, Any]) -> Any:
    """An instance that was not checked, for validators that look at other fields."""
    bare = object.__new__(cls)
    for field in attrs.fields(cls):
        if field.name in given:
            object.__setattr__(bare, field.name, given[field.name])
        elif (default := default_of(field)) is not attrs.NOTHING:
            object.__setattr__(bare, field.name, default)
    return bare


def _complaint(bare: Any, field: attrs.Attribute[Any]) -> str:
    try:
        value = getattr(bare, field.name)
        converter: Any = field.converter
        # A converter that needs more than the value runs when the settings are made.
        if converter is not None and not isinstance(converter, attrs.Converter):
            value = converter(value)
        if field.validator is not None:
            field.validator(bare, field, value)
    except ValueError as error:
        return str(error.args[0]) if error.args else type(error).__name__
    except Exception as error:
        reason = f": {error.args[0]}" if error.args else ""
        return f"the check of this setting failed with {type(error).__name__}{reason}"
    return ""
