"""Generate ``docs/cli.md``, ``docs/configuration.md`` and ``docs/plugins/reference.md`` from the code.

Run it after a change of options, keys or docstrings of the plugin API.

A test compares the pages with the output.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import click
from plugin_reference import plugin_reference

import cloud_tasks.builtin
from cloud_tasks.booleans import parse_boolean
from cloud_tasks.cli.context import AppContext, make_registry
from cloud_tasks.cli.main import ALIASES, COMMANDS, RENAMED, cli
from cloud_tasks.config import json_schema
from cloud_tasks.config.sections import TOP_LEVEL, Key, find_sections, run_section, variable_name
from cloud_tasks.config.values import show
from cloud_tasks.plugin import setting_info
from cloud_tasks.registry import Registry
from cloud_tasks.setting_values.kinds import describe
from cloud_tasks.worker.options import OPTIONS

DOCS = Path(__file__).parents[3] / "docs"
COMMAND = "python core/tests/support/reference_docs.py"
PLUGINS = ("local", "gcp", "aws", "azure", "azure-servicebus", "slurm", "sqlite", "webhook", "otel")
"""Plugins of this project with settings: providers, then event sinks."""

_CLI_HEAD = """# Command line

Generated from the code by `{command}`; a test compares.

`cloud-tasks COMMAND [OPTIONS]`; `cloud_tasks` is the same program, and snake_case names of commands are accepted.
Data goes to standard output, everything else to standard error. `--json` prints data for programs. A `DURATION` is
written `90s`, `10m` or `1h30m`, or as a number of seconds. Tables are wrapped to the terminal, and never when piped.

| exit code | meaning |
| --- | --- |
| 0 | success; of a job: every task completed, or no more failed than `--accept-failures` |
| 1 | the run or a call of a provider failed; `doctor`: a check failed |
| 2 | bad input: one line with location, problem and remedy; nothing was changed |
| 3 | every task is finished, and more failed than `--accept-failures` |
| 130 | interrupted |

[Exit codes](exit_codes.md) has the details.

Before the command: `--debug` shows tracebacks of errors, `--log-format json` writes log lines as JSON.
"""

_CONFIGURATION_HEAD = """# Configuration

Generated from the code by `{command}`; a test compares.

A YAML file, passed with `--config`. `cloud-tasks config show --config FILE` shows every value of the merged
configuration with its origin, `cloud-tasks config schema` prints a JSON Schema for editors. Later layers win:

1. the default,
2. the section `run`,
3. the section of the provider, which accepts every key of `run`, too,
4. the environment: `CLOUD_TASKS_<SECTION>_<KEY>`, e.g. `CLOUD_TASKS_RUN_MAX_CPU`,
5. the command line: `--max-cpu 8`, or `--set section.key=value` for any key.

In a variable or an option, list items are separated by spaces or commas; a list whose items contain spaces or commas is
JSON (`["a b", "c"]`), an empty list `[]`. A variable that is empty or blank counts as not set.

Numbers are plain decimal digits: `010`, `0x10` and `1_000` are texts, and errors where a number is expected. A value
that begins with `!`, `&` or `*` needs quotes.

A duration is a number of seconds, or text with units: `90s`, `10m`, `1h 30m`, `2d`.

A relative path in the file is relative to the folder of the file; one in a variable or on the command line, to the
current folder. `~` is the home folder. Without a value, the job database, `state_dir` and other files are in the folder
of the file, too, else in the current one.

An unknown key is an error that suggests the closest known one. Keep secrets in the environment, or in a file that only
you can read (others are rejected): they are never shown, logged, stored, or written into a startup script.
"""


# -- docs/cli.md ------------------------------------------------------------------------------------------------------


def cli_reference() -> str:
    """Return the command line reference, without the options of providers."""
    registry = Registry(builtins=[("builtin", cloud_tasks.builtin)], only=())
    context = click.Context(cli, info_name="cloud-tasks", obj=AppContext(registry=registry))
    parts = [_CLI_HEAD.format(command=COMMAND), "## Commands\n", _command_table()]
    configuration: list[click.Option] = []
    for name in sorted(COMMANDS):
        command = cli.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        parts.append(_command(command, inner))
        shared = [each for each in _options(command) if _is_configuration(each)]
        configuration = shared if len(shared) > len(configuration) else configuration
    parts += [_configuration_options(configuration, context), _worker_options()]
    return "\n".join(parts).rstrip() + "\n"


def _command_table() -> str:
    rows = [(f"[`{name}`](#{name})", COMMANDS[name][1]) for name in sorted(COMMANDS)]
    table = _table(("command", "description"), rows)
    also = ", ".join(f"`{alias}` for `{name}`" for alias, name in {**ALIASES, **RENAMED}.items())
    return f"{table}\nOther accepted names: {also}.\n"


def _command(command: click.Command, context: click.Context) -> str:
    lines = [f"## {context.command_path.removeprefix('cloud-tasks ')}\n", f"{_prose(command.help)}\n"]
    lines.append(f"    {context.command_path} {' '.join(command.collect_usage_pieces(context))}\n")
    own = [option for option in _options(command) if not _is_configuration(option) and "--help" not in option.opts]
    rows = [record for option in own if (record := option.get_help_record(context)) is not None]
    if rows:
        lines.append(_table(("option", "description"), [(f"`{names}`", text) for names, text in rows]))
    if any(_is_configuration(option) for option in _options(command)):
        lines.append("Also accepts the [configuration options](#configuration-options).\n")
    found = re.findall(r"^  (cloud-tasks .*|eval .*)$", command.epilog or "", re.MULTILINE)
    if found:
        lines.append("\n".join(f"    {example}" for example in found) + "\n")
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            lines.append("#" + _command(each, click.Context(each, info_name=name, parent=context)))
    return "\n".join(lines)


def _prose(text: str | None) -> str:
    paragraphs = (text or "").strip().split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _options(command: click.Command) -> list[click.Option]:
    return [parameter for parameter in command.params if isinstance(parameter, click.Option)]


def _is_configuration(option: click.Option) -> bool:
    return (option.name or "").startswith("configuration__")


def _configuration_options(options: Sequence[click.Option], context: click.Context) -> str:
    rows = [record for option in options if (record := option.get_help_record(context)) is not None]
    return (
        "## Configuration options\n\n"
        "Every key of the [configuration](configuration.md) is an option of every command that reads one. Providers\n"
        "add options such as `--project-id`; `cloud-tasks plugins show NAME` lists them.\n\n"
        + _table(("option", "description"), [(f"`{names}`", text) for names, text in rows])
    )


def _worker_options() -> str:
    rows = []
    for option in OPTIONS:
        is_flag = option.kind is parse_boolean
        flag = f"{option.flag} / --no-{option.flag.removeprefix('--')}" if is_flag else option.flag
        default = "" if option.default is None else f" (default: {show(option.default)})"
        rows.append((f"`{flag}`", f"`CLOUD_TASKS_{option.env}`", f"{option.help}{default}"))
    return (
        "## Worker options\n\n"
        "Options of programs that create a `Worker`, and of `cloud-tasks worker`. Each is also an environment\n"
        "variable with the prefix `CLOUD_TASKS_` or `RMS_CLOUD_TASKS_`; the command line wins. On an instance, `run`\n"
        "sets the variables that the job needs.\n\n" + _table(("option", "variable", "description"), rows)
    )


# -- docs/configuration.md --------------------------------------------------------------------------------------------


def configuration_reference() -> str:
    """Return the configuration reference, with the sections of this project's plugins."""
    registry = make_registry()
    parts = [_CONFIGURATION_HEAD.format(command=COMMAND), "## Top level\n"]
    parts.append(_table(("key", "description"), [(f"`{key}`", text) for key, text in TOP_LEVEL.items()]))
    parts.append("## `run`\n")
    words = _allowed_words(registry)
    parts.append(_table(_HEAD, list(_rows("run", run_section().keys.values(), words))))
    sections = find_sections(registry)
    for name in PLUGINS:
        parts.append(f"## `{name}`\n")
        section = sections[name]
        if section.is_open:
            raise SystemExit(f"the plugin {name} is not installed, or broken: the page would lack its settings")
        parts.append(_table((*_HEAD, "also"), list(_plugin_rows(name, section.keys.values()))))
    return "\n".join(parts).rstrip() + "\n"


_HEAD = ("key", "type", "default", "description")


def _allowed_words(registry: Registry) -> dict[str, list[str]]:
    """Return the accepted values of keys with a fixed set."""
    properties = json_schema(registry)["properties"]["run"]["properties"]
    found: dict[str, list[str]] = {}
    for key, schema in properties.items():
        words = schema.get("enum") or (schema.get("examples") if "pattern" in schema else None)
        if words:
            found[key] = [str(word) for word in words if word is not None]
    return found


def _rows(section: str, keys: Any, words: dict[str, list[str]]) -> Iterator[tuple[str, ...]]:
    for key in keys:
        kind = " or ".join(f"`{word}`" for word in words[key.name]) if key.name in words else describe(key.kind)
        yield f"`{key.name}`", kind, _default(key), key.info.help


def _plugin_rows(section: str, keys: Any) -> Iterator[tuple[str, ...]]:
    for key, row in zip(keys, _rows(section, keys, {}), strict=True):
        infos = [setting_info(field) for _, field in key.owners]
        also = dict.fromkeys(
            f"`{word}`"
            for word in (
                *(info.flag for info in infos),
                variable_name(section, key.name),
                *(info.env for info in infos),
            )
            if word
        )
        yield (*row, ", ".join(also))


def _default(key: Key) -> str:
    if key.secret:
        return "secret"
    if key.owners[0][1].default is attrs.NOTHING:
        return "required"
    return f"`{key.default_text}`" if key.default_text else ""


# -- both -------------------------------------------------------------------------------------------------------------


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join(' --- ' for _ in head)}|"]
    lines += [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    # Outside of code, an angle bracket would start a tag.
    parts = " ".join(text.split()).replace("|", "\\|").split("`")
    return "`".join(part if index % 2 else part.replace("<", "&lt;") for index, part in enumerate(parts))


PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli_reference,
    "configuration.md": configuration_reference,
    "plugins/reference.md": lambda: plugin_reference(COMMAND),
}


if __name__ == "__main__":
    for name, generate in PAGES.items():
        (DOCS / name).write_text(generate(), encoding="utf-8")
        click.echo(f"Wrote {DOCS / name}")
