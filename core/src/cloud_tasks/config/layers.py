"""Collects every written value of a configuration by key, lowest layer first.

Invariant, with a test: default < run < provider section < environment < command line (options, then ``--set``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from cloud_tasks.config.provenance import Layer, Provenance, Sourced
from cloud_tasks.config.sections import TOP_LEVEL, Section, advice, variable_name
from cloud_tasks.config.yaml_reader import Located
from cloud_tasks.errors import InputError
from cloud_tasks.plugin import setting_info
from cloud_tasks.plugin.setting_text import is_unset

__all__ = ["Layers", "Problem", "Statement"]


@attrs.frozen(kw_only=True)
class Problem:
    """One thing that is wrong, and where."""

    message: str
    where: str = ""
    hint: str = ""

    def __str__(self) -> str:
        return str(InputError(self.message, where=self.where, hint=self.hint))


@attrs.frozen(kw_only=True)
class Statement:
    """One written value of one key; ``section`` is empty for the keys at the top."""

    section: str
    key: str
    value: Sourced

    @property
    def name(self) -> str:
        return f"{self.section}.{self.key}" if self.section else self.key


class Layers:
    """The statements of all layers.

    Args:
        run: The section ``run``.
        sections: Those of the plugins.
    """

    def __init__(self, run: Section, sections: Mapping[str, Section]) -> None:
        self._run = run
        self._sections = sections
        self.statements: list[Statement] = []
        self.problems: list[Problem] = []

    def add_file(self, file: Path, content: Mapping[str, Located]) -> None:
        """The file's keys; problems are noted in the order of the lines."""
        for name, written in content.items():
            place = f"{file}:{written.line}"
            if name in TOP_LEVEL:
                origin = Provenance(layer=Layer.FILE, place=place)
                self._add("", name, Sourced(raw=_without_lines(written.value), origin=origin))
            elif name != "run" and name not in self._sections:
                self._unknown(name, place, (*TOP_LEVEL, "run", *self._sections), within="")
            elif written.value is None:
                continue
            elif not isinstance(written.value, dict):
                self.problems.append(Problem(message=f"{name}: expected settings (key: value)", where=place))
            else:
                layer = Layer.FILE if name == "run" else Layer.SECTION
                for key, entry in written.value.items():
                    origin = Provenance(layer=layer, place=f"{file}:{entry.line}")
                    if self._known(name, key, origin.place):
                        self._add(name, key, Sourced(raw=entry.value, origin=origin))

    def add_environment(self, environ: Mapping[str, str]) -> None:
        """Variables of known keys; one of blanks only counts as not set. A near miss of a run key is refused."""
        known: dict[str, tuple[str, str]] = {}
        foreign: dict[str, list[tuple[str, str]]] = {}
        for key in TOP_LEVEL:
            known[variable_name(key)] = ("", key)
        for section in (self._run, *self._sections.values()):
            for key, found in section.keys.items():
                known[variable_name(section.name, key)] = (section.name, key)
                for _, field in found.owners:
                    if (other := setting_info(field).env) is not None:
                        foreign.setdefault(other, []).append((section.name, key))
            if section.takes_run_keys:
                for key in self._run.keys:
                    known.setdefault(variable_name(section.name, key), (section.name, key))
        for variable, owners in foreign.items():
            for section_name, key in owners:
                self._add_variable(environ, variable, section_name, key)
        for variable, (section_name, key) in known.items():
            self._add_variable(environ, variable, section_name, key)
        self._refuse_near_misses(environ, known)

    def _add_variable(self, environ: Mapping[str, str], variable: str, section: str, key: str) -> None:
        if not is_unset(environ.get(variable)):
            origin = Provenance(layer=Layer.ENVIRONMENT, place=variable)
            self._add(section, key, Sourced(raw=environ[variable], origin=origin, is_text=True))

    def _refuse_near_misses(self, environ: Mapping[str, str], known: Mapping[str, object]) -> None:
        prefix = variable_name("run") + "_"
        for variable in sorted(environ):
            if variable.startswith(prefix) and variable not in known:
                key = variable.removeprefix(prefix).lower()
                # Names that resemble none of ours may belong to someone else.
                if hint := advice(key, self._run.keys):
                    self.problems.append(Problem(message=f"run.{key}: unknown key", where=variable, hint=hint))

    def add_options(self, options: Mapping[str, Any]) -> None:
        """Command-line values by dotted key; None means not given."""
        for name, value in options.items():
            if value is None:
                continue
            section, _, key = name.rpartition(".")
            place = self._flag(section, key, off=value is False)
            if self._known(section, key, place):
                self._add_command_line(section, key, value, place)

    def add_sets(self, sets: Sequence[str]) -> None:
        """``section.key=value`` texts, in their order."""
        for text in sets:
            name, equals, value = text.partition("=")
            section, _, key = name.strip().rpartition(".")
            if not equals:
                # The text is not repeated: what went wrong may be in front of a secret.
                self.problems.append(Problem(message="expected section.key=value", where="--set"))
            elif not section and key in self._run.keys:
                hint = f'did you mean "run.{key}"?'
                self.problems.append(Problem(message=f"{key}: unknown key", where="--set", hint=hint))
            elif self._known(section, key, "--set"):
                self._add_command_line(section, key, value, "--set")

    def _add_command_line(self, section: str, key: str, value: Any, place: str) -> None:
        origin = Provenance(layer=Layer.COMMAND_LINE, place=place)
        self._add(section, key, Sourced(raw=value, origin=origin, is_text=True))

    def _flag(self, section: str, key: str, *, off: bool) -> str:
        found = self._sections[section].keys.get(key) if section in self._sections else None
        flag = (found.info.flag if found is not None else None) or f"--{key.replace('_', '-')}"
        return f"--no-{flag.removeprefix('--')}" if off else flag

    def _known(self, section: str, key: str, place: str) -> bool:
        if not section:
            return key in TOP_LEVEL or self._unknown(key, place, TOP_LEVEL, within="")
        if section != "run" and section not in self._sections:
            return self._unknown(section, place, ("run", *self._sections), within="")
        spec = self._run if section == "run" else self._sections[section]
        keys = {*spec.keys, *(self._run.keys if spec.takes_run_keys else ())}
        return spec.is_open or key in keys or self._unknown(key, place, keys, within=f"{section}.")

    def _unknown(self, name: str, place: str, known: Iterable[str], *, within: str) -> bool:
        what = "unknown key" if within or name in TOP_LEVEL else "unknown section or key"
        self.problems.append(Problem(message=f"{within}{name}: {what}", where=place, hint=advice(name, known)))
        return False

    def _add(self, section: str, key: str, value: Sourced) -> None:
        self.statements.append(Statement(section=section, key=key, value=value))


def _without_lines(value: Any) -> Any:
    return {key: entry.value for key, entry in value.items()} if isinstance(value, dict) else value
