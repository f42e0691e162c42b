"""`JobConfig`: the merged and checked configuration of one command, with the origin of every value."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs

from cloud_tasks.command_template import CommandTemplate
from cloud_tasks.config.merge import setting_failure
from cloud_tasks.config.program import Program, parse_program
from cloud_tasks.config.provenance import MASK, Layer, Override, Provenance
from cloud_tasks.config.run_settings import RunSettings
from cloud_tasks.config.sections import PROVIDER_KINDS, TOP_LEVEL, Section, default_of, variable_name
from cloud_tasks.config.startup_script import check_script, read_script, script_path, started_by_script
from cloud_tasks.config.values import plain
from cloud_tasks.errors import CloudTasksError, InputError
from cloud_tasks.escape import without_credentials
from cloud_tasks.model import Constraints, InstanceConstraints, Limits, ProvisioningModel
from cloud_tasks.plugin import Reach, setting_info
from cloud_tasks.registry import Registry
from cloud_tasks.setting_values import field_types, format_setting

__all__ = ["Entry", "JobConfig"]

_DEFAULT = Provenance(layer=Layer.DEFAULT)
_SECRET_NAME = re.compile("(PASSWORD|PASSWD|SECRET|TOKEN|CREDENTIALS?|API_?KEY|ACCESS_KEY|PRIVATE_KEY)$", re.IGNORECASE)
_LONGEST = 3e9
"""Seconds, about a century: a longer lifetime is none."""


def _without_credentials(value: Any) -> Any:
    return without_credentials(value) if isinstance(value, str) else value


@attrs.frozen(kw_only=True)
class Entry:
    """One value for ``config show``; secrets are masked."""

    key: str
    """Dotted."""
    value: Any = attrs.field(converter=_without_credentials)
    """As JSON holds it."""
    origin: Provenance
    help: str = ""
    """Meaning of the key, in one line."""


@attrs.frozen(kw_only=True)
class JobConfig:
    """Configuration of one command."""

    file: Path | None
    folder: Path = Path()
    """Folder of the file, as the user names it, else the current one: base of paths in the file, and of defaults."""
    base_dir: Path
    """The same, absolute."""
    provider: str | None
    backends: Mapping[str, str]
    """Name of the chosen plugin of ``queue``, ``compute`` and ``pricing``; absent if none was chosen."""
    event_sinks: tuple[str, ...]
    task_source: str | None
    run: RunSettings
    origins: Mapping[str, Provenance]
    """Origins of written values, by dotted key; other keys have their defaults."""
    overrides: tuple[Override, ...] = ()
    exposed: tuple[str, ...] = ()
    """Dotted keys of secrets given on the command line."""
    secrets_in_file: Mapping[str, Provenance] = attrs.field(factory=dict)
    """Origins of the secrets that `file` contains, by dotted key."""
    values: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict, repr=False)
    """Written values of the sections of plugins."""
    sections: Mapping[str, Section] = attrs.field(factory=dict, repr=False)
    started_with: Mapping[str, Path] = attrs.field(factory=dict, repr=False)
    """Folders that the job was started with, by dotted key: they replace defaults, not values."""
    registry: Registry = attrs.field(repr=False)

    @property
    def queue(self) -> str:
        """Name of the queue plugin. Raises `InputError` if none was chosen; so do `compute` and `pricing`."""
        return self._backend("queue")

    @property
    def compute(self) -> str:
        return self._backend("compute")

    @property
    def pricing(self) -> str:
        return self._backend("pricing")

    def _backend(self, kind: str) -> str:
        if kind in self.backends:
            return self.backends[kind]
        where = str(self.file or "")
        if self.provider is None and not self.backends:
            hint = "set provider in the configuration, or add --provider"
            raise InputError("no provider given", where=where, hint=hint)
        installed = ", ".join(self._usable(kind)) or "none"
        hint = f"set {kind} in the configuration, or add --set {kind}=NAME; installed: {installed}"
        problem = f'"{self.provider}" has none' if self.provider else "no provider given"
        raise InputError(f"no {kind} chosen: {problem}", where=where, hint=hint)

    def _usable(self, kind: str) -> list[str]:
        """Return the names of a backend kind, of queues those that the instances can use."""
        chosen = self.backends.get("compute")
        compute = self.registry.compute(chosen) if chosen in self.registry.names("compute") else None
        found = [each for _, each in self.registry.all(kind)]
        if kind == "queue" and compute is not None:
            found = [each for each in found if each.traits.reach.includes(compute.traits.located)]
        return sorted({each.name for each in found})

    def settings_for(self, kind: str, name: str) -> Any:
        """Return the settings of a backend.

        Args:
            kind: ``queue``, ``compute``, ``pricing``, ``event_sink`` or ``task_source``.
            name: The backend's name.

        Raises:
            InputError: The backend does not exist, a required setting is missing, or settings contradict each other.
            PluginError: The plugin is broken.
        """
        cls = getattr(self.registry, kind)(name).settings
        given = {key: value for key, value in self.values.get(name, {}).items() if key in attrs.fields_dict(cls)}
        where = str(self.file or "")
        for field in attrs.fields(cls):
            if field.init and field.default is attrs.NOTHING and given.get(field.name) is None:
                raise InputError(f"{name}.{field.name}: required", where=where, hint=_ways_to_set(name, field))
        arguments = {field.alias: given[field.name] for field in attrs.fields(cls) if field.name in given}
        arguments |= {
            field.alias: default
            for field in attrs.fields(cls)
            if field.init and field.name not in given and isinstance(default := self._default_of(name, field), Path)
        }
        try:
            return cls(**arguments)
        except CloudTasksError:
            raise
        except Exception as error:
            # Values that were given are valid, each for itself.
            if (found := self._invalid_default(name, cls, given)) is not None:
                raise InputError(f"{name}.{found[0]}: {found[1]} (its default)", where=where) from error
            if any(setting_info(field).secret and field.name in given for field in attrs.fields(cls)):
                raise InputError(f"{name}: invalid combination of settings", where=where) from None
            reason = str(error.args[0] if error.args else error)
            if not isinstance(error, ValueError):
                reason = f"the check of its settings failed with {type(error).__name__}: {reason}"
            raise InputError(f"{name}: {reason}", where=where) from error

    def _invalid_default(self, name: str, cls: type[Any], given: Mapping[str, Any]) -> tuple[str, str] | None:
        """Return the first setting whose default its check refuses, and why."""
        defaults = {field.name: self._default_of(name, field) for field in attrs.fields(cls) if field.name not in given}
        view = SimpleNamespace(**{**defaults, **given})
        for field in attrs.fields(cls):
            default = defaults.get(field.name, attrs.NOTHING)
            if field.init and default is not attrs.NOTHING and (reason := setting_failure(view, field, default)):
                return field.name, "invalid value" if setting_info(field).secret else reason
        return None

    def _default_of(self, name: str, field: attrs.Attribute[Any]) -> Any:
        """Return the default of a setting; a relative path is in the folder of the file, as one written there, unless
        the job was started with another folder."""
        default = default_of(field)
        if not isinstance(default, Path) or str(default).startswith("~"):
            return default
        return self.started_with.get(f"{name}.{field.name}") or self.folder / default

    def default_folders(self) -> tuple[str, ...]:
        """Return the settings without a value whose default decides where queues or instances are, by dotted key."""
        return tuple(
            f"{name}.{field.name}"
            for kind, name in self.backends.items()
            if kind in ("queue", "compute") and name in self.registry.names(kind)
            for field in attrs.fields(getattr(self.registry, kind)(name).settings)
            if setting_info(field).locates and isinstance(default_of(field), Path)
            if self.values.get(name, {}).get(field.name) is None
        )

    def constraints(self) -> Constraints:
        """Return the job's requirements on instances."""
        return Constraints(
            provisioning_model=ProvisioningModel.SPOT if self.run.use_spot else ProvisioningModel.ON_DEMAND,
            instance_types=tuple(re.compile(pattern) for pattern in self.run.instance_types),
            **{field.name: getattr(self.run, field.name) for field in attrs.fields(InstanceConstraints)},
        )

    @property
    def max_lifetime(self) -> timedelta | None:
        """Maximum lifetime of an instance; None: no limit."""
        seconds = self.run.max_lifetime
        return None if seconds > _LONGEST else timedelta(seconds=seconds)

    def limits(self) -> Limits:
        """Return the limits on the size and cost of the fleet."""
        return Limits(**{field.name: getattr(self.run, field.name) for field in attrs.fields(Limits)})

    @property
    def has_startup_script(self) -> bool:
        """Whether it is known what instances run: a script, a program, or a shell command for each task."""
        run = self.run
        return any(each is not None for each in (run.startup_script, run.startup_script_file, run.program, run.command))

    def program(self) -> Program | None:
        """Return the program of the workers; None for a startup script or a shell command."""
        if self.run.program is None:
            return None
        folder, where = self.folder_of("run.program"), self.place("run.program")
        return parse_program(self.run.program, folder=folder, base_dir=self.base_dir, where=where)

    @property
    def is_shipped(self) -> bool:
        """Whether instances download what they run: a program or a command, where they share no files with this
        machine and their provider says how (`ComputeBackend.download`)."""
        run = self.run
        is_own = run.program is not None or run.command is not None
        return is_own and self._is_remote() and self.registry.compute(self.compute).download is not None

    def require_startup_script(self) -> str:
        """Return the text of the startup script: for a program or a command one that starts it, empty if it is shipped.

        Raises:
            InputError: There is none, or it is not for a shell.
        """
        if self.run.startup_script is not None:
            script, where = self.run.startup_script, self.place("run.startup_script")
        elif (path := self.startup_script_path()) is not None:
            where = self.place("run.startup_script_file")
            script = read_script(path, where=where)
        elif self.is_shipped:
            # Composed by core from the bundle.
            return ""
        elif self.run.command is not None:
            return started_by_script(("cloud-tasks", "worker"), setup=self.run.setup)
        elif (program := self.program()) is not None:
            return self._program_script(program)
        else:
            hint = "set run.program, run.startup_script or run.startup_script_file"
            raise InputError("no startup script given", where=str(self.file or ""), hint=hint)
        check_script(script, where=where)
        return script

    def _program_script(self, program: Program) -> str:
        """Return the script that runs a program with this Python, in the configuration's folder."""
        if self._is_remote():
            hint = "set run.startup_script to a script that installs and starts it"
            raise InputError(
                f'run.program: instances of "{self.compute}" cannot download it',
                where=self.place("run.program"),
                hint=hint,
            )
        return started_by_script((sys.executable, *program.words), setup=self.run.setup, folder=str(self.base_dir))

    def startup_script_path(self) -> Path | None:
        """Return the path of the file with the startup script; None without one."""
        key = "run.startup_script_file"
        name = self.run.startup_script_file
        return None if name is None else script_path(name, self.origins.get(key), self.base_dir)

    def folder_of(self, key: str) -> Path:
        """Return the folder to which a path of a dotted key is relative: the file's, or the current one."""
        origin = self.origins.get(key)
        return self.base_dir if origin is not None and origin.is_in_file else Path.cwd()

    def task_source_of(self, given: str | None) -> tuple[str | None, Path]:
        """Return the task source and the base of its relative paths: the option's, or the configuration's."""
        return (given, Path.cwd()) if given is not None else (self.task_source, self.folder_of("task_source"))

    def store_of(self, key: str) -> str | None:
        """Return ``log_store`` or ``result_store`` for the instances: absolute where they share files with this
        machine."""
        store: str | None = getattr(self.run, key)
        if not store or "://" in store or self._is_remote():
            return store
        return str(self.folder_of(f"run.{key}").absolute() / Path(store).expanduser())

    def _is_remote(self) -> bool:
        """Return whether instances share no files with this machine."""
        return self.registry.compute(self.compute).traits.located is Reach.NETWORK

    def command_template(self) -> CommandTemplate | None:
        """Return the template of the shell command that each task runs; None if tasks run a Python worker."""
        if self.run.command is None:
            return None
        place = self.place("run.command")
        where = f"{place}: run.command" if place else "run.command"
        return CommandTemplate(self.run.command, is_bash=self.run.shell != "sh", where=where)

    def place(self, name: str) -> str:
        """Return where a key was written: ``file:line``, a variable or an option; the file if it was not."""
        return self.origins[name].place if name in self.origins else str(self.file or "")

    def worker_environment(self) -> dict[str, str]:
        """Return the plugin settings that a worker needs, by variable name; never a secret.

        None is exported unless it is the default, so that variables of the instance cannot replace it.
        """
        variables: dict[str, str] = {}
        for name, field, kind, value in self.worker_settings(secret=False):
            default = default_of(field)
            if value == self._default_of(name, field) and self._is_remote():
                # The folder of the configuration is on this machine.
                value = default
            is_default = value == default
            if value is None and is_default:
                continue
            try:
                variables[variable_name(name, field.name)] = format_setting(value, kind)
            except ValueError as error:
                # Without a variable the worker has the default, which may be infinite.
                if not is_default:
                    key = f"{name}.{field.name}"
                    raise InputError(f"{key}: cannot be passed to a worker: {error}", where=self.place(key)) from error
        return variables

    def worker_settings(self, *, secret: bool) -> Iterator[tuple[str, attrs.Attribute[Any], Any, Any]]:
        """Yield section, field, type and value of the settings that workers need, secrets or others."""
        chosen = [(kind, self.backends[kind]) for kind in ("queue", "compute") if kind in self.backends]
        for kind, name in (*chosen, *(("event_sink", sink) for sink in self.event_sinks)):
            settings = self.settings_for(kind, name)
            kinds = field_types(type(settings))
            for field in attrs.fields(type(settings)):
                info = setting_info(field)
                if info.worker and info.secret == secret:
                    yield name, field, kinds[field.name], getattr(settings, field.name)

    def secret_variables(self) -> tuple[str, ...]:
        """Return the environment variables that have a secret of the job, or in which one of a plugin can be set.

        General variables of the chosen queue, such as those of an SDK, are not among them unless core delivers the
        secret: workers open the queue as well.
        """
        sources = self.run.secrets.values()
        names = dict.fromkeys(source.removeprefix("env:") for source in sources if source.startswith("env:"))
        for section in self.sections.values():
            is_queue = section.name == self.backends.get("queue")
            for key, found in section.keys.items():
                if found.secret:
                    names[variable_name(section.name, key)] = None
                    general = (setting_info(field) for _, field in found.owners)
                    names |= {info.env: None for info in general if info.env and (info.worker or not is_queue)}
        return tuple(names)

    def override_lines(self) -> tuple[str, ...]:
        """Return lines to log once at WARNING: overrides, and secrets that others can see."""
        exposed = tuple(
            f"{key}: a secret on the command line is visible to other users of this machine; "
            f"set {variable_name(*key.split('.'))} instead"
            for key in self.exposed
        )
        readable = tuple(
            f"run.environment.{name}: probably a secret; others can read the startup script, which has it; "
            "use run.secrets"
            for name in self.run.environment
            if _SECRET_NAME.search(name)
        )
        return (*map(str, self.overrides), *exposed, *readable)

    def entries(self) -> Iterator[Entry]:
        """Yield every value with defaults, in the order of the schema: top, ``run``, sections in use."""
        top: dict[str, Any] = {"provider": self.provider, **{kind: self.backends.get(kind) for kind in PROVIDER_KINDS}}
        top |= {"event_sinks": self.event_sinks, "task_source": self.task_source}
        for key, value in top.items():
            implied = self.origins.get("provider", _DEFAULT) if key in PROVIDER_KINDS and value else _DEFAULT
            yield Entry(key=key, value=plain(value), origin=self.origins.get(key, implied), help=TOP_LEVEL[key])
        for field in attrs.fields(RunSettings):
            text = setting_info(field).help
            yield self._entry(f"run.{field.name}", getattr(self.run, field.name), secret=False, help=text)
        for name in dict.fromkeys((*self.backends.values(), *self.event_sinks, *self.values)):
            yield from self._section_entries(name)

    def _section_entries(self, name: str) -> Iterator[Entry]:
        given, section = self.values.get(name, {}), self.sections.get(name)
        keys = section.keys if section is not None else {}
        for key, found in keys.items():
            default = self._default_of(name, found.owners[0][1])
            value = given.get(key, None if default is attrs.NOTHING else default)
            secret = found.secret and value is not None
            yield self._entry(f"{name}.{key}", value, secret=secret, help=found.info.help)
        for key, value in given.items():
            if key not in keys:
                yield self._entry(f"{name}.{key}", value, secret=True)

    def _entry(self, key: str, value: Any, *, secret: bool, help: str = "") -> Entry:
        shown = MASK if secret else plain(value)
        return Entry(key=key, value=shown, origin=self.origins.get(key, _DEFAULT), help=help)

    def as_dict(self, *, with_origins: bool = False) -> dict[str, Any]:
        """Return the merged configuration as JSON holds it, in the shape of the file; secrets are masked.

        Args:
            with_origins: Each value becomes ``{"value": …, "origin": …}``.
        """
        found: dict[str, Any] = {}
        for entry in self.entries():
            section, _, key = entry.key.rpartition(".")
            target = found.setdefault(section, {}) if section else found
            target[key] = {"value": entry.value, "origin": str(entry.origin)} if with_origins else entry.value
        return found


def _ways_to_set(section: str, field: attrs.Attribute[Any]) -> str:
    """Return the places where a required setting can be given."""
    info = setting_info(field)
    flag = [f"add {info.flag}"] if info.flag and not info.secret else []
    return ", or ".join(
        [f"set it in the section {section}", *flag, f"set {info.env or variable_name(section, field.name)}"]
    )
