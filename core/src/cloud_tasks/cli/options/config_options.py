"""Command-line options made from the settings classes of core and of the installed plugins.

Every option hands its text to the configuration, which types and checks it: an option and a key of the file give the
same error for the same mistake. Importing this module imports no plugin; `configuration_options` does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
import click.parser

from cloud_tasks.config.job_config import JobConfig
from cloud_tasks.config.load import load_config
from cloud_tasks.config.sections import Key, find_sections, run_section
from cloud_tasks.plugin.setting_kinds import describe, element_type, strip_optional
from cloud_tasks.registry import Registry

__all__ = ["configuration_options", "load_from_options"]

_F = TypeVar("_F", bound=Callable[..., Any])

_PREFIX = "configuration__"
"""Of the parameter names, so that none meets a parameter of the command's own."""


class _WordsOption(click.Option):
    """Takes all words up to the next option: ``--instance-types n1-.* n2-.*``; may be given again."""

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        super().add_to_parser(parser, ctx)
        # click has no option of varying length; its parser hands each option the words that are still to come.
        for name in self.opts:
            option = parser._long_opt[name]
            option.process = _greedy(option.process)


def _greedy(process: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    def take(value: Any, state: Any) -> None:
        process(value, state)
        while state.rargs and not (len(state.rargs[0]) > 1 and state.rargs[0].startswith("-")):
            process(state.rargs.pop(0), state)

    return take


def configuration_options(registry: Registry) -> Callable[[_F], _F]:
    """A decorator for a click command: ``--config``, ``--provider``, ``--set``, the keys of ``run``, plugins' flags."""

    def decorate(function: _F) -> _F:
        # Each decorator puts its option in front.
        for option in reversed(list(_options(registry))):
            function = option(function)
        return function

    return decorate


def _options(registry: Registry) -> Iterator[Callable[[Any], Any]]:
    yield click.option(
        "--config",
        "-c",
        f"{_PREFIX}file",
        type=click.Path(path_type=Path, dir_okay=True),
        metavar="FILE",
        help="Configuration file (YAML).",
    )
    yield click.option(
        "--provider", f"{_PREFIX}provider", metavar="NAME", help="Plugin that provides queue and machines."
    )
    yield click.option(
        "--set",
        f"{_PREFIX}set",
        multiple=True,
        metavar="SECTION.KEY=VALUE",
        help="Set any key of the configuration; may be given again.",
    )
    flags = {"--config", "--provider", "--set"}
    for key in run_section().keys.values():
        flag = f"--{key.name.replace('_', '-')}"
        flags.add(flag)
        yield _option(flag, f"run__{key.name}", key, help=key.info.help)
    for flag, (key, owners) in sorted(_plugin_flags(registry).items()):
        if flag not in flags:
            yield _option(flag, f"flag__{_identifier(flag)}", key, help=f"{key.info.help} ({', '.join(owners)})")


def _plugin_flags(registry: Registry) -> dict[str, tuple[Key, list[str]]]:
    """The flags that plugins ask for, each with its first key and the plugins that share it."""
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
        return click.option(flag, f"{_PREFIX}{name}", cls=_WordsOption, multiple=True, metavar="WORD...", help=text)
    return click.option(flag, f"{_PREFIX}{name}", metavar=_metavar(key), help=text)


def _metavar(key: Key) -> str:
    words = {
        "a whole number": "INTEGER",
        "a number": "NUMBER",
        "a path": "PATH",
        "a duration": "DURATION",
        "an amount in US dollars": "USD",
    }
    return words.get(describe(key.kind), "TEXT")


def _default(key: Key) -> str:
    return f" [{key.default_text}]" if key.default_text else ""


def load_from_options(
    registry: Registry, values: Mapping[str, Any], *, environ: Mapping[str, str] | None = None
) -> JobConfig:
    """The configuration that a command's parameters ask for; parameters of the command's own are passed over.

    Args:
        values: The command's parameters by name, as click gives them.
        environ: This process's environment when None.

    Raises:
        InputError: Anything is wrong with what was written.
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
    return load_config(
        registry,
        file=values.get(f"{_PREFIX}file"),
        options=options,
        sets=values.get(f"{_PREFIX}set", ()),
        environ=os.environ if environ is None else environ,
    )
