"""Validation of command lines in the documentation by their parsers, without running them."""

from __future__ import annotations

import runpy
import tomllib
from collections.abc import Collection
from functools import cache
from pathlib import Path

import click

from cloud_tasks.cli.context import AppContext, make_registry
from cloud_tasks.cli.main import cli
from cloud_tasks.worker.options import extend_parser, make_parser

__all__ = ["check_command"]

ROOT = Path(__file__).parents[3]
FOREIGN = {
    "gcloud",
    "aws",
    "az",
    "cd",
    "export",
    "eval",
    "pytest",
    "curl",
    "sqlite3",
    "kill",
    "cat",
    "head",
    "tail",
    ".",
}
"""Programs whose arguments are not checked."""


def check_command(words: list[str], *, programs: Collection[str]) -> None:
    """Validate a command line. Raises, or exits with code 2, where it is invalid.

    Args:
        programs: Names of the known worker programs.
    """
    program, *arguments = words
    if program in ("cloud-tasks", "cloud_tasks"):
        parse_command(arguments)
    elif program in ("python", "python3"):
        check_python(arguments, programs)
    elif program == "pip":
        check_installation(arguments)
    else:
        assert program in FOREIGN


@cache
def app() -> AppContext:
    return AppContext(registry=make_registry())


def parse_command(arguments: list[str]) -> None:
    """Parse arguments of ``cloud-tasks`` without running the command."""
    context = click.Context(cli, info_name="cloud-tasks", obj=app())
    command: click.Command = cli
    while arguments and arguments[0] in ("--debug", "--log-format"):
        del arguments[: 2 if arguments[0] == "--log-format" else 1]
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        name, *arguments = arguments
        found = command.get_command(context, name)
        assert found is not None, f"unknown command {name}"
        command = found
        if name == "worker":
            parse_worker(arguments, "--command", "--param")
    try:
        command.make_context(command.name, arguments, parent=context)
    except click.exceptions.Exit as end:
        if end.exit_code != 0:
            raise


def parse_worker(arguments: list[str], *own: str) -> None:
    parser = make_parser(description="")
    for option in own:
        parser.add_argument(option, action="append")
    extend_parser(parser)
    parser.parse_args(arguments)


def check_python(arguments: list[str], programs: Collection[str]) -> None:
    program, *rest = arguments
    if program == "dev.py":
        assert rest[0] in runpy.run_path(str(ROOT / "dev.py"))["JOBS"]
    elif program.endswith(".py"):
        assert Path(program).name in programs
        parse_worker(rest)
    else:
        assert program == "-m"


def check_installation(arguments: list[str]) -> None:
    extras = tomllib.loads((ROOT / "core/pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert arguments[0] == "install"
    for word in arguments[1:]:
        name, _, listed = word.partition("[")
        assert set(filter(None, listed.rstrip("]").split(","))) <= {*extras, "test"}
        if name.startswith("./"):
            assert (ROOT / name).is_dir()
        elif name.startswith("cloud-tasks-"):
            assert (ROOT / "plugins" / name.removeprefix("cloud-tasks-")).is_dir()
