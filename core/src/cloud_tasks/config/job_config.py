"""`JobConfig`: the merged configuration of one command, checked, with the origin of every value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from cloud_tasks.config.cross_checks import script_path
from cloud_tasks.config.provenance import MASK, Layer, Override, Provenance
from cloud_tasks.config.run_settings import RunSettings
from cloud_tasks.config.sections import BACKEND_AXES, Section, default_of, variable_name
from cloud_tasks.config.values import plain
from cloud_tasks.errors import InputError
from cloud_tasks.model import Constraints, Limits, Purchase
from cloud_tasks.model.constraints import InstanceConstraints
from cloud_tasks.plugin import setting_info
from cloud_tasks.plugin.setting_kinds import field_types
from cloud_tasks.plugin.setting_text import format_setting
from cloud_tasks.registry import Registry

__all__ = ["Entry", "JobConfig"]

_DEFAULT = Provenance(layer=Layer.DEFAULT)

_COMMAND_SCRIPT = "#!/bin/bash\nexec cloud-tasks worker\n"
"""For a job that is a shell command and has no script of its own; the image has to have cloud-tasks."""
_SHELLS = ("sh", "ash", "bash", "dash", "ksh", "mksh", "zsh")
"""Those that understand ``export NAME=value``."""


@attrs.frozen(kw_only=True)
class Entry:
    """One value as ``config show`` lists it; a secret is masked already."""

    key: str
    """Dotted."""
    value: Any
    """As JSON knows it."""
    origin: Provenance


@attrs.frozen(kw_only=True)
class JobConfig:
    """What a command works with."""

    file: Path | None
    base_dir: Path
    """The folder of the file, else the current one."""
    provider: str | None
    backends: Mapping[str, str]
    """The chosen plugin of each of the axes ``queue``, ``compute`` and ``pricing``; absent where none was chosen."""
    event_sinks: tuple[str, ...]
    task_source: str | None
    run: RunSettings
    origins: Mapping[str, Provenance]
    """Of every written value, by dotted key; what is not here is a default."""
    overrides: tuple[Override, ...] = ()
    exposed: tuple[str, ...] = ()
    """Dotted keys of secrets that were given on the command line."""
    values: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict, repr=False)
    """The given values of the plugins' sections."""
    sections: Mapping[str, Section] = attrs.field(factory=dict, repr=False)
    registry: Registry = attrs.field(repr=False)

    @property
    def queue(self) -> str:
        """The queue plugin's name. Raises `InputError` where none was chosen, as the two below."""
        return self._backend("queue")

    @property
    def compute(self) -> str:
        return self._backend("compute")

    @property
    def pricing(self) -> str:
        return self._backend("pricing")

    def _backend(self, axis: str) -> str:
        if axis not in self.backends:
            hint = "set provider in the configuration, or give --provider"
            raise InputError("no provider was given", where=str(self.file or ""), hint=hint)
        return self.backends[axis]

    def settings_for(self, axis: str, name: str) -> Any:
        """The settings of a backend.

        Args:
            axis: ``queue``, ``compute``, ``pricing``, ``event_sink`` or ``task_source``.
            name: The backend's name.

        Raises:
            InputError: There is no such backend, a required setting is missing, or they do not go together.
            PluginError: The plugin is broken.
        """
        cls = getattr(self.registry, axis)(name).settings
        fields = attrs.fields(cls)
        names = {field.name for field in fields}
        given = {key: value for key, value in self.values.get(name, {}).items() if key in names}
        for field in fields:
            if field.init and field.default is attrs.NOTHING and given.get(field.name) is None:
                info = setting_info(field)
                ways = [
                    f"set it in the section {name}",
                    *([f"give {info.flag}"] if info.flag and not info.secret else []),
                ]
                ways += [f"set {info.env or variable_name(name, field.name)}"]
                raise InputError(
                    f"{name}.{field.name}: is required", where=str(self.file or ""), hint=" or ".join(ways)
                )
        try:
            return cls(**{field.alias: given[field.name] for field in fields if field.init and field.name in given})
        except (ValueError, TypeError, ArithmeticError) as error:
            has_secret = any(setting_info(field).secret and field.name in given for field in fields)
            reason = str(error.args[0] if error.args else error)
            if not isinstance(error, ValueError):
                reason = f"the check of its settings failed with {type(error).__name__}: {reason}"
            if has_secret:
                reason = "its settings do not go together"
            raise InputError(f"{name}: {reason}", where=str(self.file or "")) from (None if has_secret else error)

    def constraints(self) -> Constraints:
        """What the job asks of its machines."""
        return Constraints(
            purchase=Purchase.SPOT if self.run.use_spot else Purchase.ON_DEMAND,
            instance_types=tuple(re.compile(pattern) for pattern in self.run.instance_types),
            **{field.name: getattr(self.run, field.name) for field in attrs.fields(InstanceConstraints)},
        )

    def limits(self) -> Limits:
        """How much may run at once, and cost in all."""
        return Limits(**{field.name: getattr(self.run, field.name) for field in attrs.fields(Limits)})

    def require_startup_script(self) -> str:
        """The startup script's text. Raises `InputError` where there is none."""
        where = str(self.file or "")
        if self.run.startup_script is not None:
            script, where = self.run.startup_script, self._place("run.startup_script")
        elif self.run.startup_script_file is not None:
            where = self._place("run.startup_script_file")
            path = script_path(self.run.startup_script_file, self.origins.get("run.startup_script_file"), self.base_dir)
            try:
                script = path.read_text(encoding="utf-8-sig")
            except (OSError, UnicodeDecodeError) as error:
                reason = (error.strerror or str(error)) if isinstance(error, OSError) else "it is not UTF-8 text"
                raise InputError(f"the startup script {path} cannot be read: {reason}", where=where) from error
        elif self.run.command is not None:
            return _COMMAND_SCRIPT
        else:
            hint = "set run.startup_script or run.startup_script_file"
            raise InputError("there is no startup script, which instances need", where=where, hint=hint)
        if not script.strip():
            raise InputError("the startup script is empty", where=where, hint="say in it how to start a worker")
        interpreter = _interpreter(script)
        if interpreter is not None and interpreter not in _SHELLS:
            raise InputError(
                f'the startup script is for "{interpreter}"; what a worker is told is put after the first line, '
                "and is for a shell",
                where=where,
                hint="start with #!/bin/bash, and run the other program from there",
            )
        return script

    def _place(self, name: str) -> str:
        return self.origins[name].place if name in self.origins else str(self.file or "")

    def worker_environment(self) -> dict[str, str]:
        """Return the plugin settings that a worker needs, by variable name; never a secret.

        None is exported only where it is not the default: the variables of the instance itself then do not count.
        """
        chosen = [(axis, self.backends[axis]) for axis in ("queue", "compute") if axis in self.backends]
        variables: dict[str, str] = {}
        for axis, name in (*chosen, *(("event_sink", sink) for sink in self.event_sinks)):
            settings = self.settings_for(axis, name)
            kinds = field_types(type(settings))
            for field in attrs.fields(type(settings)):
                info, value = setting_info(field), getattr(settings, field.name)
                is_default = value == default_of(field)
                if not info.worker or info.secret or (value is None and is_default):
                    continue
                try:
                    variables[variable_name(name, field.name)] = format_setting(value, kinds[field.name])
                except ValueError as error:
                    # An infinite default, for example, is what the worker has without a variable.
                    if not is_default:
                        key = f"{name}.{field.name}"
                        raise InputError(
                            f"{key}: cannot be passed to a worker: {error}", where=self._place(key)
                        ) from error
        return variables

    def override_lines(self) -> tuple[str, ...]:
        """What to tell once at WARNING: overrides, and secrets that others can see in the process list."""
        seen = tuple(
            f"{key}: a secret on the command line is visible to other users of this machine; "
            f"set {variable_name(*key.split('.'))} instead"
            for key in self.exposed
        )
        return (*map(str, self.overrides), *seen)

    def entries(self) -> Iterator[Entry]:
        """Every value, defaults included, in the order of the schema: top, ``run``, sections in use."""
        top: dict[str, Any] = {"provider": self.provider, **{axis: self.backends.get(axis) for axis in BACKEND_AXES}}
        top |= {"event_sinks": self.event_sinks, "task_source": self.task_source}
        for key, value in top.items():
            implied = self.origins.get("provider", _DEFAULT) if key in BACKEND_AXES and value else _DEFAULT
            yield Entry(key=key, value=plain(value), origin=self.origins.get(key, implied))
        for field in attrs.fields(RunSettings):
            yield self._entry(f"run.{field.name}", getattr(self.run, field.name), secret=False)
        for name in dict.fromkeys((*self.backends.values(), *self.event_sinks, *self.values)):
            yield from self._section_entries(name)

    def _section_entries(self, name: str) -> Iterator[Entry]:
        given, section = self.values.get(name, {}), self.sections.get(name)
        keys = section.keys if section is not None else {}
        for key, found in keys.items():
            default = default_of(found.owners[0][1])
            value = given.get(key, None if default is attrs.NOTHING else default)
            yield self._entry(f"{name}.{key}", value, secret=found.secret and value is not None)
        for key, value in given.items():
            if key not in keys:
                yield self._entry(f"{name}.{key}", value, secret=True)

    def _entry(self, key: str, value: Any, *, secret: bool) -> Entry:
        return Entry(key=key, value=MASK if secret else plain(value), origin=self.origins.get(key, _DEFAULT))

    def as_dict(self, *, with_origins: bool = False) -> dict[str, Any]:
        """The merged configuration for JSON, in the shape of the file; secrets are masked.

        Args:
            with_origins: Each value becomes ``{"value": …, "origin": …}``.
        """
        found: dict[str, Any] = {}
        for entry in self.entries():
            section, _, key = entry.key.rpartition(".")
            target = found.setdefault(section, {}) if section else found
            target[key] = {"value": entry.value, "origin": str(entry.origin)} if with_origins else entry.value
        return found


def _interpreter(script: str) -> str | None:
    """The program that the first line names, without its folder; None: it names none."""
    first = script.partition("\n")[0]
    words = first[2:].split() if first.startswith("#!") else []
    names = [word.rpartition("/")[2] for word in words if not word.startswith("-") and "=" not in word]
    return names[1] if len(names) > 1 and names[0] == "env" else names[0] if names else None
