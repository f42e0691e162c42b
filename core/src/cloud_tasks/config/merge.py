"""One typed pass over the assignments: the highest layer wins, and replaced values are recorded.

Invariants, each with a test:

1. A path in the file is relative to the folder of the file, for each key that is a path.
2. Validators see winning values only; of a replaced value only the type is checked.
3. No text of a secret is in an override or in a problem.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs

from cloud_tasks.config.provenance import MASK, Assignment, Layer, Override, Provenance
from cloud_tasks.config.sections import Key, Section, default_of
from cloud_tasks.config.values import show, typed
from cloud_tasks.errors import InputError
from cloud_tasks.setting_values import expected, is_number, is_optional, is_unset

__all__ = ["Merged", "check_section", "setting_failure"]

_TOP_KINDS: Mapping[str, Any] = {"event_sinks": tuple[str, ...]}


@attrs.define(kw_only=True)
class Merged:
    """Winning values by dotted key, in the making."""

    run: Section
    sections: Mapping[str, Section]
    folder: Path = Path()
    """Folder of the file, as the user names it."""
    values: dict[str, Any] = attrs.field(factory=dict, repr=False)
    origins: dict[str, Provenance] = attrs.field(factory=dict)
    overrides: list[Override] = attrs.field(factory=list)
    exposed: list[str] = attrs.field(factory=list)
    """Keys of secrets given on the command line."""
    in_file: dict[str, Provenance] = attrs.field(factory=dict)
    """Keys of secrets in the file, winning or replaced."""
    problems: list[InputError] = attrs.field(factory=list)

    def within(self, section: str) -> dict[str, Any]:
        """Return the values of one section, by key."""
        prefix = f"{section}."
        return {name.removeprefix(prefix): value for name, value in self.values.items() if name.startswith(prefix)}

    def place(self, name: str) -> str:
        """Return where the winning value was written; empty for a default."""
        return self.origins[name].place if name in self.origins else ""

    def source(self, name: str) -> str:
        """Return the origin of the winning value, for a message."""
        return str(self.origins.get(name, Provenance(layer=Layer.DEFAULT)))

    def assign(self, assignments: Iterable[Assignment], *, selected: str | None = None) -> None:
        """Type and merge assignments, which are ordered lowest first.

        Args:
            selected: Plugin whose section may set keys of ``run``; those of other sections are only checked.
        """
        for one in assignments:
            for target, key in self._targets(one):
                try:
                    value = _typed(one, key)
                except ValueError as error:
                    self.problems.append(InputError(f"{one.name}: {error}", where=one.provenance.place))
                    continue
                if isinstance(value, Path) and one.provenance.is_in_file and not str(value).startswith("~"):
                    value = self.folder / value
                applies = target != f"run.{one.key}" or one.section in ("run", selected)
                if applies and value is not attrs.NOTHING:
                    self._set(target, value, one, key)

    def _targets(self, one: Assignment) -> list[tuple[str, Key | None]]:
        """Return the keys that an assignment sets; in a provider's section, its own key, that of ``run``, or both."""
        if not one.section:
            return [(one.key, None)]
        spec = self.run if one.section == "run" else self.sections[one.section]
        found: list[tuple[str, Key | None]] = []
        if one.key in spec.keys:
            found.append((one.name, spec.keys[one.key]))
        if spec.takes_run_keys and one.key in self.run.keys:
            found.append((f"run.{one.key}", self.run.keys[one.key]))
        return found or [(one.name, None)]

    def _set(self, target: str, value: Any, one: Assignment, key: Key | None) -> None:
        kind = None if key is None else key.kind
        if target in self.values and self.values[target] != value:
            texts = (MASK, MASK) if _is_secret(one, key) else (show(value, kind), show(self.values[target], kind))
            self.overrides.append(
                Override(
                    key=target,
                    value=texts[0],
                    origin=one.provenance,
                    replaced=texts[1],
                    replaced_origin=self.origins[target],
                )
            )
        self.values[target] = value
        self.origins[target] = one.provenance
        if key is not None and key.secret:
            if one.provenance.layer is Layer.COMMAND_LINE and target not in self.exposed:
                self.exposed.append(target)
            if one.provenance.is_in_file:
                self.in_file.setdefault(target, one.provenance)


def _is_secret(one: Assignment, key: Key | None) -> bool:
    """Return whether the value may be a secret: any value of a plugin that is not installed may be one."""
    return bool(one.section) if key is None else key.is_hidden


def _typed(one: Assignment, key: Key | None) -> Any:
    """Return the typed value; `attrs.NOTHING` for a null, or a blank number, that means "not given".

    Raises:
        ValueError: The value does not have the type.
    """
    kind = key.kind if key is not None else (Any if one.section else _TOP_KINDS.get(one.key, str))
    is_blank = isinstance(one.value, str) and is_unset(one.value) and is_number(kind)
    value = None if is_blank else one.value
    if value is None and not is_optional(kind):
        return attrs.NOTHING
    try:
        return typed(kind, value, is_text=one.is_text)
    except (ValueError, TypeError) as error:
        if _is_secret(one, key):
            raise ValueError(f"expected {expected(kind)}; the given value is a secret and not shown") from None
        raise ValueError(str(error)) from error


def check_section(merged: Merged, section: Section) -> Iterator[InputError]:
    """Run the converters and validators of a section's values, and yield a problem for each that fails."""
    given = merged.within(section.name)
    for cls in dict.fromkeys(cls for key in section.keys.values() for cls, _ in key.owners):
        fields = attrs.fields(cls)
        defaults = {field.name: default for field in fields if (default := default_of(field)) is not attrs.NOTHING}
        # The settings object does not exist yet: a value is missing, or another one is invalid.
        view = SimpleNamespace(
            **{**defaults, **{field.name: given[field.name] for field in fields if field.name in given}}
        )
        for field in fields:
            if field.init and field.name in given and (reason := setting_failure(view, field, given[field.name])):
                if section.keys[field.name].secret:
                    reason = "invalid value (a secret, not shown)"
                name = f"{section.name}.{field.name}"
                yield InputError(f"{name}: {reason}", where=merged.place(name))


def setting_failure(view: SimpleNamespace, field: attrs.Attribute[Any], value: Any) -> str:
    """Return why a value is invalid; empty if it is valid, or if only the whole settings object can be checked."""
    try:
        # A converter that takes more than the value runs when the settings are constructed.
        converter: Any = field.converter
        if converter is not None and not isinstance(converter, attrs.Converter):
            value = converter(value)
        if field.validator is not None:
            field.validator(view, field, value)
    except ValueError as error:
        return str(error.args[0]) if error.args else type(error).__name__
    except AttributeError as error:
        # The validator uses a member of the settings class other than a value.
        return "" if error.obj is view else _crashed(error)
    except Exception as error:
        return _crashed(error)
    return ""


def _crashed(error: Exception) -> str:
    return f"the check of this setting failed with {type(error).__name__}" + (
        f": {error.args[0]}" if error.args else ""
    )
