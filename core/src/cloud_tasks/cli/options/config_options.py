"""Command-line options generated from the settings classes of core and the installed plugins.

Options pass their text to the configuration, which parses and validates it: an option and a key of the file give the
same error for the same mistake. Importing this module imports no plugin; `configuration_options` does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from cloud_tasks.cli.options.database import with_recorded_folders
from cloud_tasks.cli.options.output_files import check_output_files
from cloud_tasks.cli.options.words_option import WordsOption
from cloud_tasks.config import JobConfig, Key, find_sections, load_config, run_section
from cloud_tasks.registry import Registry
from cloud_tasks.setting_values import describe, element_type, strip_optional

__all__ = [
    "configuration_options",
    "is_configuration_option",
    "is_database_option",
    "is_job_option",
    "is_public_option",
    "load_from_options",
]

_F = TypeVar("_F", bound=Callable[..., Any])

_PREFIX = "configuration__"
"""Prefix of the parameter names, to keep them apart from a command's own parameters."""


_DATABASE_OPTION = f"{_PREFIX}run__db_file"
_JOB_OPTIONS = {f"{_PREFIX}file", f"{_PREFIX}run__job_id", _DATABASE_OPTION}


def is_configuration_option(name: str) -> bool:
    """Return whether a parameter of this name sets a key of the configuration."""
    return name.startswith(_PREFIX)


def is_job_option(name: str) -> bool:
    """Return whether a parameter of this name identifies the job of a command."""
    return name in _JOB_OPTIONS


def is_database_option(name: str) -> bool:
    """Return whether a parameter of this name is the path of the job database."""
    return name == _DATABASE_OPTION


def is_public_option(name: str) -> bool:
    """Return whether a parameter of this name never holds a secret: keys of plugins may be secret."""
    return name in _JOB_OPTIONS or name.startswith((f"{_PREFIX}run__", f"{_PREFIX}provider"))


def configuration_options(
    registry: Registry, *, keys: Container[str] | None = None, plugins: Container[str] | None = None
) -> Callable[[_F], _F]:
    """Return a decorator that adds ``--config``, ``--provider``, ``--set``, the keys of ``run`` and plugins' flags.

    Args:
        keys: Restrict the keys of ``run`` to these, and leave out ``--provider``, which the command itself takes.
        plugins: Restrict plugins' flags to those of these plugins.
    """

    def decorate(function: _F) -> _F:
        # Each decorator inserts its option at the front.
        for option in reversed(list(_options(registry, keys, plugins))):
            function = option(function)
        return function

    return decorate


def _options(
    registry: Registry, keys: Container[str] | None, plugins: Container[str] | None
) -> Iterator[Callable[[Any], Any]]:
    yield click.option(
        "--config",
        "-c",
        f"{_PREFIX}file",
        type=click.Path(path_type=Path, dir_okay=True),
        metavar="FILE",
        help="Path of the configuration file (YAML).",
    )
    if keys is None:
        yield click.option(
            "--provider", f"{_PREFIX}provider", metavar="NAME", help="Provider of queue, instances and prices."
        )
    yield click.option(
        "--set",
        f"{_PREFIX}set",
        multiple=True,
        metavar="SECTION.KEY=VALUE",
        help="Value of any configuration key; repeatable.",
    )
    flags = {"--config", "--provider", "--set"}
    for key in run_section().keys.values():
        flag = f"--{key.name.replace('_', '-')}"
        flags.add(flag)
        if keys is None or key.name in keys:
            yield _option(flag, f"run__{key.name}", key, help=key.info.help)
    for flag, (key, owners) in sorted(_plugin_flags(registry).items()):
        if flag not in flags and (plugins is None or any(owner in plugins for owner in owners)):
            yield _option(flag, f"flag__{_identifier(flag)}", key, help=f"{key.info.help} ({', '.join(owners)})")


def _plugin_flags(registry: Registry) -> dict[str, tuple[Key, list[str]]]:
    """Return the flags that plugins declare, each with its first key and the plugins that share it."""
    found: dict[str, tuple[Key, list[str]]] = {}
    for section in find_sections(registry).values():
        for key in section.keys.values():
            if key.info.flag:
                found.setdefault(key.info.flag, (key, []))[1].append(section.name)
    return found


def _identifier(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")


def _option(flag: str, name: str, key: Key, *, help: str) -> Callable[[Any], Any]:
    text = f"{help}{_default(key)}."
    if strip_optional(key.kind) is bool:
        no = f"--no-{flag.removeprefix('--')}"
        return click.option(f"{flag}/{no}", f"{_PREFIX}{name}", default=None, help=text)
    element = element_type(key.kind)
    if element is not None and not hasattr(element, "from_plain"):
        return click.option(flag, f"{_PREFIX}{name}", cls=WordsOption, multiple=True, metavar="WORD...", help=text)
    return click.option(flag, f"{_PREFIX}{name}", metavar=_metavar(key), help=text)


def _metavar(key: Key) -> str:
    words = {
        "a whole number": "INTEGER",
        "a number": "NUMBER",
        "a path": "PATH",
        "a number or a share": "N|N%",
        "a duration": "DURATION",
        "an amount in US dollars": "USD",
    }
    return words.get(describe(key.kind), "TEXT")


def _default(key: Key) -> str:
    return f" (default: {key.default_text})" if key.default_text else ""


def load_from_options(
    registry: Registry, values: Mapping[str, Any], *, environ: Mapping[str, str] | None = None
) -> JobConfig:
    """Load the configuration from a command's parameters; the command's own parameters are ignored.

    Args:
        values: The command's parameters by name, from click.
        environ: Environment variables; None: those of this process.

    Raises:
        InputError: The configuration is invalid, or an output file of the command is an input.
    """
    options: dict[str, Any] = {}
    for name, value in values.items():
        kind, _, key = name.removeprefix(_PREFIX).partition("__")
        if not name.startswith(_PREFIX) or value is None or value == ():
            continue
        if kind == "run":
            options[f"run.{key}"] = value
        elif kind == "flag":
            options[f"--{key.replace('_', '-')}"] = value
        elif kind == "provider":
            options["provider"] = value
    config = load_config(
        registry,
        file=values.get(f"{_PREFIX}file"),
        options=options,
        sets=values.get(f"{_PREFIX}set", ()),
        environ=os.environ if environ is None else environ,
    )
    check_output_files(config, values)
    return with_recorded_folders(config)
