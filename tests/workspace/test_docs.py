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
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from markdown_blocks import Block, blocks_of, commands_of
from quoted_commands import check_command

import cloud_tasks.plugin
from cloud_tasks.cli.context import make_registry
from cloud_tasks.config import load_config
from cloud_tasks.errors import InputError
from cloud_tasks.plugin import hooks

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
RUN = ("docs/quickstart.md",)
"""Pages whose shell blocks are all run, but for those that install something."""
ELSEWHERE = {
    "docs/event_sinks.md": "core/tests/builtin/sinks/test_sinks_page.py",
    "docs/first_hour.md": "tests/e2e/test_first_hour.py",
}
"""Pages whose blocks a test of their own runs: a shell block is parsed here as well."""
PRELUDES = {"docs/plugins/index.md": "import attrs\nfrom cloud_tasks.plugin import setting\n"}
"""What stands before the Python of a page that quotes parts of modules."""
LANGUAGES = {"", "python", "yaml", "json", "toml", "shell", "bash", "text", "console", "sql"}
TASKS = [{"id": f"task-{number}", "data": {"num1": number, "num2": 2 * number}} for number in range(1, 4)]


def named(blocks: list[Block]) -> pytest.MarkDecorator:
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


def is_installation(block: Block) -> bool:
    return all(words[0] == "pip" for words in commands_of(block.text))


def is_run(block: Block) -> bool:
    is_shell = block.language in ("shell", "bash")
    is_of_page = block.page in RUN and "not run" not in block.markers and not is_installation(block)
    return is_shell and ("run" in block.markers or is_of_page)


@named(BLOCKS)
def test_a_block_is_in_a_language_that_is_checked(block: Block) -> None:
    assert block.language in LANGUAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_command_stands_outside_of_a_block(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    in_blocks = [line for block in blocks_of(ROOT, page) for line in block.text.splitlines()]
    shown = [
        line.strip() for line in lines if re.match(r"( {4,}|\t)\S", line) and re.search(r"\bcloud-tasks [a-z]", line)
    ]
    quoted = {line.strip() for line in in_blocks}
    assert [line for line in shown if line not in quoted and "`" not in line] == []


@pytest.mark.parametrize("page", ELSEWHERE)
def test_what_is_tested_elsewhere_is_tested_there(page: str) -> None:
    assert Path(page).name in (ROOT / ELSEWHERE[page]).read_text(encoding="utf-8")


@named([block for block in of("shell", "bash") if not is_run(block)])
def test_a_shell_block_that_is_not_run_says_why(block: Block) -> None:
    of_page = next((reason for page, reason in PARSED_ONLY.items() if block.page.startswith(page)), None)
    reason = "installs packages" if is_installation(block) else of_page
    assert block.markers.get("not run", reason) in REASONS


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
    registry = make_registry()
    registry.register("redis", importlib.import_module("cloud_tasks_redis.plugin"))
    (tmp_path / "config.yml").write_text(block.text, encoding="utf-8")
    load_config(registry, file=tmp_path / "config.yml", options={}, environ={})


@named([block for block in of("python") if is_signature(block)])
def test_a_signature_has_the_arguments_of_the_code(block: Block) -> None:
    functions: dict[str, Callable[..., Any]] = {"load_config": load_config}
    classes = [value for value in vars(cloud_tasks.plugin).values() if inspect.isclass(value)]
    for owner in (hooks, cloud_tasks.plugin, *classes):
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
    programs = {each.file for each in BLOCKS if each.file} | {file.name for file in EXAMPLE.glob("*.py")}
    for words in commands:
        check_command(words, programs=programs)


@pytest.mark.parametrize(
    "line",
    [
        "cloud-tasks rum --config config.yml",
        "cloud-tasks run --confic config.yml",
        "cloud-tasks status --json now",
        "cloud-tasks run --limit many",
        "cloud-tasks worker --comand true",
        "python program.py --tasks tasks.json",
        "python nowhere.py --task-file tasks.json",
        "python3 dev.py demonstrate",
        "pip install 'cloud-tasks[clouds]'",
        "rm -rf results",
    ],
)
def test_a_line_that_is_wrong_is_noticed(line: str) -> None:
    with pytest.raises((AssertionError, click.UsageError, InputError, SystemExit)):
        check_command(commands_of(line)[0], programs={"program.py"})


def runs_something(blocks: list[Block]) -> bool:
    return any(is_run(block) or is_program(block) for block in blocks)


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
        elif is_run(block):
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
