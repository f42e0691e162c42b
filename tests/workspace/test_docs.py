"""Every code block of the documentation is run, or checked by what reads it for real.

What each kind of block is put through:

- Python: run as a program, in the page's folder; one that starts a worker does the page's tasks, all of them.
  ``<!-- fragment -->``: its syntax and its imports. ``<!-- from: path -->``: it stands in that file. Signatures of the
  plugin surface: their arguments are the code's.
- YAML: loaded as a configuration, by the loader of the command line.
- JSON and TOML: parsed.
- Shell: each line of `cloud-tasks` goes through the real parsers of its command, each of a worker's program through the
  worker's, and what `pip` and `dev.py` are told has to exist. ``<!-- run -->``: it is run, in the page's folder. Else
  ``<!-- not run: … -->`` says why, with one of a few reasons.
- Text and what a terminal shows is output and pictures; lines of `cloud-tasks` in them are parsed as well.

A page's folder has the files that its blocks name (``# program.py`` in the first line, or ``<!-- file: … -->``).
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from markdown_blocks import Block, blocks_of, commands_of

import cloud_tasks.plugin
from cloud_tasks.cli.context import AppContext, make_registry
from cloud_tasks.cli.main import cli
from cloud_tasks.config import load_config
from cloud_tasks.plugin import hooks
from cloud_tasks.worker.options import extend_parser, make_parser

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md"]
BLOCKS = [block for page in PAGES for block in blocks_of(ROOT, page)]
EXAMPLE = ROOT / "examples" / "parallel_addition"

REASONS = {
    "needs an account",
    "installs packages",
    "needs a terminal",
    "works on a job of yours",
    "takes minutes",
    "needs a server",
}
"""Why a shell block may be only parsed."""
PARSED_ONLY = {
    "docs/cli.md": "works on a job of yours",
    "docs/providers/": "needs an account",
    "docs/plugins/": "installs packages",
}
"""Pages none of whose shell blocks is run."""
ELSEWHERE = {
    "docs/event_sinks.md": "core/tests/builtin/test_sinks_page.py",
    "docs/first_hour.md": "tests/e2e/test_first_hour.py",
}
"""Pages whose blocks a test of their own runs: a shell block is parsed here as well."""
PRELUDES = {"docs/plugins/index.md": "import attrs\nfrom cloud_tasks.plugin import setting\n"}
"""What stands before the Python of a page that quotes parts of modules."""
LANGUAGES = {"", "python", "yaml", "json", "toml", "shell", "bash", "text", "console", "sql"}
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
"""Programs whose arguments are not ours to check."""
TASKS = [{"id": f"task-{number}", "data": {"num1": number, "num2": 2 * number}} for number in range(1, 4)]


def named(blocks: list[Block]) -> Any:
    return pytest.mark.parametrize("block", blocks, ids=str)


def of(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages and block.page not in ELSEWHERE]


def is_signature(block: Block) -> bool:
    return re.search(r"^(?!.*:$).*\) -> [^:\n]+$", block.text, re.M) is not None and "from" not in block.markers


def is_program(block: Block) -> bool:
    return (
        block.language == "python"
        and block.page not in PRELUDES
        and block.page not in ELSEWHERE
        and not {"from", "fragment"} & set(block.markers)
        and not is_signature(block)
    )


@named(BLOCKS)
def test_a_block_is_in_a_language_that_is_checked(block: Block) -> None:
    assert block.language in LANGUAGES


@pytest.mark.parametrize("page", ELSEWHERE)
def test_what_is_tested_elsewhere_is_tested_there(page: str) -> None:
    assert Path(page).name in (ROOT / ELSEWHERE[page]).read_text(encoding="utf-8")


@named([block for block in of("shell", "bash") if "run" not in block.markers])
def test_a_shell_block_that_is_not_run_says_why(block: Block) -> None:
    of_page = next((reason for page, reason in PARSED_ONLY.items() if block.page.startswith(page)), None)
    assert block.markers.get("not run", of_page) in REASONS


@named([block for block in BLOCKS if "from" in block.markers])
def test_a_quotation_stands_in_its_file(block: Block) -> None:
    def unindented(text: str) -> str:
        return "\n".join(line.strip() for line in text.splitlines())

    assert unindented(block.text) in unindented((ROOT / block.markers["from"]).read_text(encoding="utf-8"))


@named(of("json"))
def test_json_is_json(block: Block) -> None:
    json.loads(block.text)


@named(of("toml"))
def test_toml_is_toml(block: Block) -> None:
    tomllib.loads(block.text)


@named(of("yaml"))
def test_yaml_is_a_configuration(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The sample plugin is not installed; its module is light, as that of every plugin.
    monkeypatch.syspath_prepend(str(ROOT / "examples/plugins/redis_queue/src"))
    from cloud_tasks_redis import plugin as redis_plugin

    registry = make_registry()
    registry.register("redis", redis_plugin)
    (tmp_path / "config.yml").write_text(block.text, encoding="utf-8")
    load_config(registry, file=tmp_path / "config.yml", options={}, environ={})


@named([block for block in of("python") if is_signature(block)])
def test_a_signature_has_the_arguments_of_the_code(block: Block) -> None:
    functions: dict[str, Callable[..., Any]] = {"load_config": load_config}
    for owner in (hooks, *(value for value in vars(cloud_tasks.plugin).values() if inspect.isclass(value))):
        functions |= {name: value for name, value in vars(owner).items() if inspect.isfunction(value)}
    lines = [line.strip().removeprefix("def ") for line in block.text.splitlines() if "(" in line and "->" in line]
    assert lines
    for line in lines:
        (quoted,) = ast.parse(f"def {line}: ...").body
        assert isinstance(quoted, ast.FunctionDef)
        arguments = [each.arg for each in (*quoted.args.args, *quoted.args.kwonlyargs)]
        assert arguments == list(inspect.signature(functions[quoted.name]).parameters), line


@named([block for block in of("python") if "fragment" in block.markers or block.page in PRELUDES])
def test_a_fragment_has_imports_that_exist(block: Block) -> None:
    tree = ast.parse(PRELUDES.get(block.page, "") + block.text)
    if block.page not in PRELUDES:
        tree.body = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    exec(compile(tree, str(block), "exec"), {"__name__": "quoted"})


@named([block for block in BLOCKS if block.language in ("", "shell", "bash", "text", "console")])
def test_each_command_line_is_one(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if block.language not in ("shell", "bash"):
        commands = commands_of("\n".join(re.findall(r"^(?:\$ )?(cloud-tasks .*)$", block.text, re.M)))
    else:
        if block.page != "docs/cli.md":
            subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)
        commands = commands_of(re.sub(r"^.*\[OPTIONS\].*$", "", block.text, flags=re.M))
    monkeypatch.chdir(tmp_path)
    for words in commands:
        check_command(words)


def check_command(words: list[str]) -> None:
    """Raises, or ends the program with code 2, where a line cannot be meant so."""
    program, *arguments = words
    if program in ("cloud-tasks", "cloud_tasks"):
        parse_command(arguments)
    elif program in ("python", "python3"):
        check_python(arguments)
    elif program == "pip":
        check_installation(arguments)
    else:
        assert program in FOREIGN


def parse_command(arguments: list[str]) -> None:
    """Parse it as the command line does, short of doing it."""
    context = click.Context(cli, info_name="cloud-tasks", obj=AppContext(registry=make_registry()))
    command: click.Command = cli
    while arguments and arguments[0] in ("--debug", "--log-format"):
        del arguments[: 2 if arguments[0] == "--log-format" else 1]
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        name, *arguments = arguments
        found = command.get_command(context, name)
        assert found is not None, f"there is no command {name}"
        command = found
        if name == "worker":
            parse_worker(arguments, "--command", "--param")
    try:
        command.make_context(command.name, arguments, parent=context)
    except click.exceptions.Exit as end:
        assert end.exit_code == 0


def parse_worker(arguments: list[str], *own: str) -> None:
    parser = make_parser(description="")
    for option in own:
        parser.add_argument(option, action="append")
    extend_parser(parser)
    parser.parse_args(arguments)


def check_python(arguments: list[str]) -> None:
    program, *rest = arguments
    if program == "dev.py":
        assert rest[0] in runpy.run_path(str(ROOT / "dev.py"))["JOBS"]
    elif program.endswith(".py"):
        file = Path(program).name
        assert (EXAMPLE / file).exists() or file in {block.file for block in BLOCKS}
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


def runs_something(blocks: list[Block]) -> bool:
    return any("run" in block.markers or is_program(block) for block in blocks)


SCENES = {
    page.relative_to(ROOT).as_posix(): blocks
    for page in PAGES
    if runs_something(blocks := [block for block in BLOCKS if block.page == page.relative_to(ROOT).as_posix()])
}


@pytest.mark.parametrize("page", SCENES)
def test_a_page_runs_from_top_to_bottom(page: str, tmp_path: Path) -> None:
    tasks = next((json.loads(block.text) for block in SCENES[page] if is_task_list(block)), TASKS)
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples/parallel_addition").symlink_to(EXAMPLE)
    for block in SCENES[page]:
        if block.file is not None:
            (tmp_path / block.file).write_text(block.text + "\n", encoding="utf-8")
        if is_program(block):
            run_program(block, tmp_path, len(tasks))
        elif "run" in block.markers:
            run(["bash", "-e", "-u", "-o", "pipefail", "-c", block.text], tmp_path, block)


def is_task_list(block: Block) -> bool:
    return block.language == "json" and block.text.startswith("[")


def run_program(block: Block, folder: Path, tasks: int) -> None:
    """Run it; a worker has to complete the tasks of the page."""
    file = folder / (block.file or "quoted.py")
    file.write_text(block.text + "\n", encoding="utf-8")
    is_worker = "Worker(" in block.text
    arguments = ["--task-file", "tasks.json"] if is_worker and "task_source=" not in block.text else []
    (folder / "events.log").unlink(missing_ok=True)
    run([sys.executable, file.name, *arguments], folder, block)
    if is_worker:
        events = [json.loads(line) for line in (folder / "events.log").read_text().splitlines()]
        completed = {
            event["task_id"] for event in events if event["event_type"] == "task_completed" and not event["retry"]
        }
        assert len(completed) == tasks, f"{block}: {events}"


def run(command: list[str], folder: Path, block: Block) -> None:
    """Run it as a user of this environment would; what it says is in the failure."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{block}: {done.stdout}{done.stderr}"
