"""Assignments of all layers of a configuration: file, environment, options and ``--set``.

Invariant, with a test: default < what setup recorded (`setup_record`) < run < provider section < environment < command
line (options, then ``--set``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cloud_tasks.config.provenance import Assignment, Layer, Provenance
from cloud_tasks.config.sections import TOP_LEVEL, Section, advice, variable_name
from cloud_tasks.config.yaml_reader import Located
from cloud_tasks.errors import InputError
from cloud_tasks.plugin import setting_info
from cloud_tasks.setting_values import is_unset

__all__ = ["Layers"]


class Layers:
    """Collector of assignments and of unknown keys.

    Args:
        run: The section ``run``.
        sections: The sections of plugins, by name.
    """

    def __init__(self, run: Section, sections: Mapping[str, Section]) -> None:
        self._run = run
        self._sections = sections
        self._assignments: list[Assignment] = []
        self.problems: list[InputError] = []

    def assignments(self, *, top: bool) -> list[Assignment]:
        """Return the assignments to keys at the top, or to keys of sections, lowest layer first."""
        found = [one for one in self._assignments if (not one.section) is top]
        # Options come before --set, in any order on the command line.
        return sorted(found, key=lambda one: (one.provenance.layer, one.provenance.place == "--set"))

    def add_file(self, file: Path, content: Mapping[str, Located]) -> None:
        """Add the keys of the file."""
        for name, found in content.items():
            place = f"{file}:{found.line}"
            if name in TOP_LEVEL:
                self._add("", name, _without_lines(found.value), Provenance(layer=Layer.FILE, place=place))
            elif name != "run" and name not in self._sections:
                self._unknown(name, place, (*TOP_LEVEL, "run", *self._sections), within="")
            elif isinstance(found.value, dict):
                layer = Layer.FILE if name == "run" else Layer.SECTION
                for key, entry in found.value.items():
                    provenance = Provenance(layer=layer, place=f"{file}:{entry.line}")
                    if self._check_key(name, key, provenance.place):
                        self._add(name, key, entry.value, provenance)
            elif found.value is not None:
                self.problems.append(InputError(f"{name}: expected settings (key: value)", where=place))

    def add_environment(self, environ: Mapping[str, str]) -> None:
        """Add the variables of known keys, except blank ones; refuse near misses of ``run`` keys."""
        general: dict[str, tuple[str, str]] = {variable_name(key): ("", key) for key in TOP_LEVEL}
        own: list[tuple[str, str, str]] = []
        for section in (self._run, *self._sections.values()):
            for key, found in section.keys.items():
                general[variable_name(section.name, key)] = (section.name, key)
                variables = (setting_info(field).env for _, field in found.owners)
                own += [(variable, section.name, key) for variable in variables if variable is not None]
            if section.takes_run_keys:
                for key in self._run.keys:
                    general.setdefault(variable_name(section.name, key), (section.name, key))
        # A plugin's own variable ranks below the general one of the same key.
        for variable, name, key in (*own, *((variable, *where) for variable, where in general.items())):
            if not is_unset(environ.get(variable)):
                provenance = Provenance(layer=Layer.ENVIRONMENT, place=variable)
                self._add(name, key, environ[variable], provenance, is_text=True)
        self._refuse_near_misses(environ, general)

    def _refuse_near_misses(self, environ: Mapping[str, str], known: Mapping[str, object]) -> None:
        prefix = variable_name("run") + "_"
        for variable in sorted(environ):
            if variable.startswith(prefix) and variable not in known:
                key = variable.removeprefix(prefix).lower()
                # Other names may belong to other programs.
                if hint := advice(key, self._run.keys):
                    self.problems.append(InputError(f"run.{key}: unknown key", where=variable, hint=hint))

    def add_options(self, options: Mapping[str, Any]) -> None:
        """Add command-line values by dotted key; None means not given."""
        for name, value in options.items():
            if value is None:
                continue
            section, _, key = name.rpartition(".")
            place = self._flag(section, key, off=value is False)
            if self._check_key(section, key, place):
                self._add(section, key, value, Provenance(layer=Layer.COMMAND_LINE, place=place), is_text=True)

    def add_sets(self, sets: Sequence[str]) -> None:
        """Add ``section.key=value`` texts, in order."""
        for text in sets:
            name, equals, value = text.partition("=")
            section, _, key = name.strip().rpartition(".")
            if not equals or not name.strip():
                # The text may hold a secret.
                self.problems.append(InputError("expected section.key=value", where="--set"))
            elif not section and key in self._run.keys:
                hint = f'did you mean "run.{key}"?'
                self.problems.append(InputError(f"{key}: unknown key", where="--set", hint=hint))
            elif self._check_key(section, key, "--set"):
                self._add(section, key, value, Provenance(layer=Layer.COMMAND_LINE, place="--set"), is_text=True)

    def _flag(self, section: str, key: str, *, off: bool) -> str:
        found = self._sections[section].keys.get(key) if section in self._sections else None
        flag = (found.info.flag if found is not None else None) or f"--{key.replace('_', '-')}"
        return f"--no-{flag.removeprefix('--')}" if off else flag

    def _check_key(self, section: str, key: str, place: str) -> bool:
        """Return whether the key exists; else add a problem."""
        if not section:
            return key in TOP_LEVEL or self._unknown(key, place, TOP_LEVEL, within="")
        if section != "run" and section not in self._sections:
            return self._unknown(section, place, ("run", *self._sections), within="")
        spec = self._run if section == "run" else self._sections[section]
        keys = {*spec.keys, *(self._run.keys if spec.takes_run_keys else ())}
        return spec.is_open or key in keys or self._unknown(key, place, keys, within=f"{section}.")

    def _unknown(self, name: str, place: str, known: Iterable[str], *, within: str) -> bool:
        what = "unknown key" if within or name in TOP_LEVEL else "unknown section or key"
        self.problems.append(InputError(f"{within}{name}: {what}", where=place, hint=advice(name, known)))
        return False

    def _add(self, section: str, key: str, value: Any, provenance: Provenance, *, is_text: bool = False) -> None:
        self._assignments.append(
            Assignment(section=section, key=key, value=value, provenance=provenance, is_text=is_text)
        )


def _without_lines(value: Any) -> Any:
    return {key: entry.value for key, entry in value.items()} if isinstance(value, dict) else value
