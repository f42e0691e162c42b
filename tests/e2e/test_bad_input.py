"""Bad input: one line of error, exit code 2, nothing changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Break = Callable[[Any], tuple[str, ...]]


def with_config(text: str) -> Break:
    def write(desk: Any) -> tuple[str, ...]:
        (desk.folder / "config.yml").write_text(text)
        return ("--config", "config.yml", "--task-file", str(desk.tasks(3)))

    return write


def with_setting(**run: object) -> Break:
    return lambda desk: ("--config", str(desk.configure(**run)), "--task-file", str(desk.tasks(3)))


def with_tasks(text: str, name: str = "tasks.json") -> Break:
    def write(desk: Any) -> tuple[str, ...]:
        (desk.folder / name).write_text(text)
        return ("--config", str(desk.configure()), "--task-file", name)

    return write


def with_options(*options: str) -> Break:
    return lambda desk: ("--config", str(desk.configure()), "--task-file", str(desk.tasks(3)), *options)


RUN = "run: {job_id: addition, startup_script: 'true'}\n"

BROKEN: dict[str, tuple[Break, str]] = {
    "no such configuration file": (
        lambda desk: ("--config", "absent.yml", "--task-file", str(desk.tasks(3))),
        "absent.yml",
    ),
    "configuration that is not YAML": (with_config("provider: local\nrun: {job_id: [\n"), "config.yml"),
    "configuration that is a list": (with_config("- provider: local\n"), "config.yml"),
    "configuration that runs code": (with_config("provider: !!python/object/apply:os.getcwd []\n" + RUN), "config.yml"),
    "unknown section": (with_config("provider: local\nruns: {job_id: addition}\n" + RUN), "runs"),
    "unknown key": (with_setting(min_cpus=2), "min_cpu"),
    "unknown provider": (with_config("provider: lokal\n" + RUN), "lokal"),
    "no provider": (with_config(RUN), "provider"),
    "mistyped number": (with_setting(max_instances="many"), "max_instances"),
    "number out of range": (with_setting(max_instances=-1), "max_instances"),
    "minimum above maximum": (with_setting(min_cpu=4, max_cpu=2), "cpu"),
    "malformed job id": (with_setting(job_id="Not An Id"), "job_id"),
    "broken regular expression": (with_setting(instance_types="local-("), "instance_types"),
    "no startup script": (with_setting(startup_script=None), "startup_script"),
    "missing startup script file": (
        with_setting(startup_script=None, startup_script_file="absent.sh"),
        "absent.sh",
    ),
    "two startup scripts": (with_setting(startup_script_file="start.sh"), "startup_script"),
    "no such task file": (
        lambda desk: ("--config", str(desk.configure()), "--task-file", "absent.json"),
        "absent.json",
    ),
    "no task file named": (lambda desk: ("--config", str(desk.configure())), "task-file"),
    "truncated task file": (with_tasks('[{"id": "a", "data": {}}, {"id": "b", "da'), "tasks.json"),
    "task file that is not JSON": (with_tasks("tasks: none"), "tasks.json"),
    "task without id": (with_tasks('[{"data": {}}]'), "id"),
    "task without data": (with_tasks('[{"id": "a"}]'), "data"),
    "task whose data is a list": (with_tasks('[{"id": "a", "data": [1]}]'), "data"),
    "task whose id is a number": (with_tasks('[{"id": 7, "data": {}}]'), "id"),
    "two tasks of one id": (with_tasks('[{"id": "twin", "data": {}}, {"id": "twin", "data": {}}]'), "twin"),
    "broken line of a JSON Lines file": (
        with_tasks('{"id": "a", "data": {}}\n{"id": "b", "data": \n', "tasks.jsonl"),
        "tasks.jsonl",
    ),
    "broken YAML tasks": (with_tasks("- id: a\n  data: {}\n- id: [\n", "tasks.yaml"), "tasks.yaml"),
    "no such factory": (
        lambda desk: ("--config", str(desk.configure()), "--task-file", "no_such_module:tasks"),
        "no_such_module",
    ),
    "unknown option": (with_options("--mim-cpu", "2"), "--mim-cpu"),
    "option out of range": (with_options("--max-instances", "-3"), "max"),
    "--set of an unknown key": (with_options("--set", "run.max_instnces=3"), "max_instances"),
}


@pytest.mark.parametrize(("breaking", "named"), BROKEN.values(), ids=BROKEN.keys())
def test_bad_input_is_reported_in_one_line_and_changes_nothing(desk: Any, breaking: Break, named: str) -> None:
    answer = desk.run("run", *breaking(desk), "--force")
    errors = [line for line in answer.stderr.splitlines() if line.startswith("Error: ")]
    assert answer.returncode == 2, answer.stderr
    assert "Traceback" not in answer.stderr
    assert len(errors) == 1, answer.stderr
    assert named in errors[0]
    assert desk.left_behind() == []


def test_invalid_task_file_leaves_an_existing_job_unchanged(desk: Any) -> None:
    arguments = ("run", "--config", str(desk.configure()), "--task-file")
    assert desk.run(*arguments, str(desk.tasks(3))).returncode == 0
    before = {file: file.read_bytes() for file in databases(desk.folder)}
    broken = desk.folder / "broken.json"
    broken.write_text(json.dumps([{"id": "a", "data": {}}])[:-1])
    assert desk.run(*arguments, str(broken), "--force").returncode == 2
    assert before
    assert {file: file.read_bytes() for file in databases(desk.folder)} == before


def databases(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.db"))


def test_misspelt_command_gets_a_suggestion(desk: Any) -> None:
    answer = desk.run("runn")
    assert answer.returncode == 2
    assert answer.stderr.splitlines() == ['Error: unknown command "runn"; did you mean "run"?']
