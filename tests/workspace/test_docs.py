"""Every code block of the documentation is run, or checked by the real parsers.

Checks by kind of block:

- Python: run as a program, in the page's folder; a worker must complete all tasks of the page. ``<!-- fragment -->``:
  syntax and imports are checked. ``<!-- from: path -->``: the block must be part of that file. Signatures of the plugin
  surface must have the arguments of the code.
- YAML: loaded as a configuration.
- JSON and TOML: parsed.
- Shell: `cloud-tasks` lines are parsed by their command, lines of worker programs by the worker, and arguments of `pip`
  and `dev.py` must exist. ``<!-- run -->``: the block is run, in the page's folder; otherwise ``<!-- not run: … -->``
  has one of the allowed reasons.
- Text and console: `cloud-tasks` lines are parsed as well.

A page's folder has the files named by its blocks (``# program.py`` in the first line, or ``<!-- file: … -->``).
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import re
import shutil
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
from cloud_tasks.shipping import build_bundle, upload

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
"""Allowed reasons for not running a shell block."""
PARSED_ONLY = {
    "docs/cli.md": "works on a job of yours",
    "docs/providers/": "needs an account",
    "docs/plugins/": "installs packages",
}
"""Pages whose shell blocks are not run."""
RUN = ("docs/quickstart.md",)
"""Pages whose shell blocks are all run, except installations."""
ELSEWHERE = {
    "docs/event_sinks.md": "core/tests/builtin/sinks/test_sinks_page.py",
    "docs/first_hour.md": "tests/e2e/test_first_hour.py",
    "docs/plugins/tutorial_provider.md": "tests/plugins/test_tutorial_provider.py",
}
"""Pages whose blocks are run by a separate test; shell blocks are parsed here as well."""
PRELUDES = {"docs/plugins/index.md": "import attrs\nfrom cloud_tasks.plugin import setting\n"}
"""Imports required by pages that quote parts of modules."""
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
def test_block_language_is_one_that_is_checked(block: Block) -> None:
    assert block.language in LANGUAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_inside_of_blocks(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    in_blocks = [line for block in blocks_of(ROOT, page) for line in block.text.splitlines()]
    shown = [
        line.strip() for line in lines if re.match(r"( {4,}|\t)\S", line) and re.search(r"\bcloud-tasks [a-z]", line)
    ]
    quoted = {line.strip() for line in in_blocks}
    assert [line for line in shown if line not in quoted and "`" not in line] == []


@pytest.mark.parametrize("page", ELSEWHERE)
def test_pages_with_a_separate_test_are_named_in_it(page: str) -> None:
    assert Path(page).name in (ROOT / ELSEWHERE[page]).read_text(encoding="utf-8")


@named([block for block in of("shell", "bash") if not is_run(block)])
def test_shell_block_that_is_not_run_has_a_reason(block: Block) -> None:
    of_page = next((reason for page, reason in PARSED_ONLY.items() if block.page.startswith(page)), None)
    reason = "installs packages" if is_installation(block) else of_page
    assert block.markers.get("not run", reason) in REASONS


@named([block for block in BLOCKS if "from" in block.markers])
def test_quotation_is_part_of_its_file(block: Block) -> None:
    def unindented(text: str) -> str:
        return "\n".join(line.strip() for line in text.splitlines())

    assert unindented(block.text) in unindented((ROOT / block.markers["from"]).read_text(encoding="utf-8"))


@named(of("json"))
def test_json_block_is_valid(block: Block) -> None:
    json.loads(block.text)


@named(of("toml"))
def test_toml_block_is_valid(block: Block) -> None:
    tomllib.loads(block.text)


@named(of("yaml"))
def test_yaml_block_is_a_valid_configuration(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The sample plugin is not installed; its plugin module imports no library.
    monkeypatch.syspath_prepend(str(ROOT / "examples/plugins/redis_queue/src"))
    registry = make_registry()
    registry.register("redis", importlib.import_module("cloud_tasks_redis.plugin"))
    (tmp_path / "config.yml").write_text(block.text, encoding="utf-8")
    for program in re.findall(r"^  program: (\S+\.py)", block.text, re.MULTILINE):
        (tmp_path / program).touch()
    load_config(registry, file=tmp_path / "config.yml", options={}, environ={})


@named([block for block in of("python") if is_signature(block)])
def test_signature_has_the_arguments_of_the_code(block: Block) -> None:
    functions: dict[str, Callable[..., Any]] = {
        "load_config": load_config,
        "build_bundle": build_bundle,
        "upload": upload,
    }
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
def test_fragment_imports_existing_names(block: Block) -> None:
    tree = ast.parse(PRELUDES.get(block.page, "") + block.text)
    if block.page not in PRELUDES:
        tree.body = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    exec(compile(tree, str(block), "exec"), {"__name__": "quoted"})


@named([block for block in BLOCKS if block.language in ("", "shell", "bash", "text", "console")])
def test_command_lines_are_valid(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_invalid_command_line_is_detected(line: str) -> None:
    with pytest.raises((AssertionError, click.UsageError, InputError, SystemExit)):
        check_command(commands_of(line)[0], programs={"program.py"})


def has_runnable_blocks(blocks: list[Block]) -> bool:
    return any(is_run(block) or is_program(block) for block in blocks)


RUNNABLE_PAGES = {
    page.relative_to(ROOT).as_posix(): blocks
    for page in PAGES
    if has_runnable_blocks(blocks := [block for block in BLOCKS if block.page == page.relative_to(ROOT).as_posix()])
}


@pytest.mark.parametrize("page", RUNNABLE_PAGES)
def test_page_runs_from_top_to_bottom(page: str, tmp_path: Path) -> None:
    tasks = next((json.loads(block.text) for block in RUNNABLE_PAGES[page] if is_task_list(block)), TASKS)
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    (tmp_path / "examples").mkdir()
    shutil.copytree(EXAMPLE, tmp_path / "examples/parallel_addition")
    for block in RUNNABLE_PAGES[page]:
        if block.file is not None:
            (tmp_path / block.file).write_text(block.text + "\n", encoding="utf-8")
        if is_program(block):
            run_program(block, tmp_path, len(tasks))
        elif is_run(block):
            run(["bash", "-e", "-u", "-o", "pipefail", "-c", block.text], tmp_path, block)


def is_task_list(block: Block) -> bool:
    return block.language == "json" and block.text.startswith("[")


def run_program(block: Block, folder: Path, tasks: int) -> None:
    """Run a program; a worker must complete the tasks of the page."""
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
    """Run a command in this environment; its output is part of a failure."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{block}: {done.stdout}{done.stderr}"
