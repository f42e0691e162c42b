"""Bad input and bad surroundings of every command: one line with the place, and no internal error."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_facts import new_store

from cloud_tasks.cli import main as main_module
from cloud_tasks.cli.context import AppContext, make_registry
from cloud_tasks.cli.failures import describe_failure
from cloud_tasks.cli.main import COMMANDS, cli, main

CONFIG = "provider: local\nrun: {job_id: job, startup_script: 'true', max_instances: 1}\nlocal: {vcpus: 1}\n"
NOT_UTF8 = os.fsdecode(b"caf\xe9")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLOUD_TASKS_DISABLE_PLUGINS", "gcp,aws,azure")
    (tmp_path / "config.yml").write_text(CONFIG)
    (tmp_path / "tasks.json").write_text('[{"id": "a", "data": {}}]')
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "loop.json").symlink_to("loop.json")
    return tmp_path


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, list[str]]:
    """Run a command; return exit code, output and the lines on stderr that are no log."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, [line for line in shown.err.splitlines() if " - " not in line[:40]]


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    code, _, lines = call(capsys, *arguments)
    assert code in (1, 2), (arguments, lines)
    assert "internal error" not in "".join(lines), arguments
    errors = [line for line in lines if line.startswith("Error: ")]
    assert len(errors) == 1, (arguments, lines)
    return errors[0]


# -- paths ------------------------------------------------------------------------------------------------------------

ODD_PATHS = {
    "missing": "nowhere/at/all.json",
    "folder": "folder.json",
    "loop": "loop.json",
    "long": "x" * 300 + ".json",
    "below a file": "config.yml/a.json",
    "device": "/dev/full",
    "not UTF-8": NOT_UTF8 + ".json",
    "NUL": "a\0b.json",
    "kernel": "/proc/nothing.json",
}


def path_options() -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield each command with each of its options that takes a path."""
    context = click.Context(cli, obj=AppContext(registry=make_registry()))
    for name in COMMANDS:
        command = cli.get_command(context, name)
        members = command.commands.items() if isinstance(command, click.Group) else [("", command)]
        for member, each in members:
            for option in each.params if each is not None else ():
                if isinstance(option, click.Option) and (
                    option.metavar in ("FILE", "PATH", "FOLDER") or isinstance(option.type, click.Path)
                ):
                    yield (name, member) if member else (name,), max(option.opts, key=len)


REQUIRED = {
    "run": ["--dry-run", "--task-file", "tasks.json"],
    "load-queue": ["--dry-run", "--task-file", "tasks.json"],
    "logs": ["a"],
    "export": ["tasks"],
    "simulate": ["--num-tasks", "1", "--task-time", "1s", "--seeds", "1"],
    "stop": ["--force"],
    "monitor": [],
}
OPTIONS = [
    pair
    for pair in path_options()
    if pair[1] in ("--config", "--db-file", "--task-file", "--sample-db", "--output", "--output-file", "--directory")
    and pair[0][0] not in ("monitor", "stop", "cleanup", "init", "ship", "doctor")
]


@pytest.mark.parametrize("odd", ODD_PATHS)
@pytest.mark.parametrize(("command", "option"), OPTIONS, ids=[" ".join([*names, option]) for names, option in OPTIONS])
def test_path_option_never_ends_in_an_internal_error(
    capsys: pytest.CaptureFixture[str], command: tuple[str, ...], option: str, odd: str
) -> None:
    given = [*command, *REQUIRED.get(command[0], []), option, ODD_PATHS[odd]]
    if option != "--config":
        given += ["--config", "config.yml"]
    code, _, lines = call(capsys, *given)
    assert "internal error" not in "\n".join(lines), given
    assert code in (0, 1, 2)
    assert code == 0 or sum(line.startswith("Error: ") for line in lines) == 1, lines


@pytest.mark.parametrize("odd", ["missing", "folder", "loop", "long", "below a file", "not UTF-8", "NUL", "kernel"])
def test_task_file_that_cannot_be_read_is_bad_input(capsys: pytest.CaptureFixture[str], odd: str) -> None:
    line = refusal(capsys, "run", "--config", "config.yml", "--dry-run", "--task-file", f"json:{ODD_PATHS[odd]}")
    assert line.isascii()
    assert "file" in line or "NUL" in line


# -- text that is not UTF-8 -------------------------------------------------------------------------------------------


def test_task_file_whose_name_is_not_utf8_is_read(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / f"{NOT_UTF8}.json").write_text('[{"id": "a", "data": {}}]')
    code, out, lines = call(capsys, "load-queue", "--config", "config.yml", "--task-file", f"{NOT_UTF8}.json")
    assert (code, lines) == (0, [])
    assert re.fullmatch(r"Loaded 1 task into queue job-[0-9a-f]{16}-1; database job\.db\n", out), out


def test_task_file_that_does_not_exist_is_named_readably(capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(capsys, "run", "--config", "config.yml", "--task-file", f"{NOT_UTF8}.json", "--dry-run")
    assert line == "Error: caf\\udce9.json: file not found; check the path of the task file"


def test_argument_that_is_not_utf8_is_named(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    new_store(folder, ["a"]).close()
    for command in (["logs", NOT_UTF8], ["status", "--job-id", NOT_UTF8]):
        assert "caf\\udce9" in refusal(capsys, *command, "--db-file", "job.db").replace("\udce9", "\\udce9")


@given(
    st.lists(st.text(st.characters(min_codepoint=1), max_size=6), min_size=1, max_size=4), st.sampled_from([*COMMANDS])
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
def test_any_arguments_end_without_an_internal_error(
    capsys: pytest.CaptureFixture[str], words: list[str], command: str
) -> None:
    if command in ("worker", "init", "ship", "completion", "doctor", "plugins", "run"):
        command = "status"
    _, _, lines = call(capsys, command, *words)
    assert "internal error" not in "\n".join(lines)


# -- standard streams, groups without a command -----------------------------------------------------------------------

RUN = "from cloud_tasks.cli.main import main; main()"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], ["status", "--db-file", "job.db"], ["plugins", "list"]]
)
def test_full_standard_output_is_reported_in_one_line(folder: Path, arguments: list[str]) -> None:
    new_store(folder, ["a"]).close()
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", RUN, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    expected = "Error: standard output: No space left on device; free some space\n"
    assert (done.returncode, done.stderr) == (1, expected)


def test_output_in_another_encoding_is_escaped(folder: Path) -> None:
    new_store(folder, ["é"]).close()
    done = subprocess.run(
        [sys.executable, "-c", RUN, "export", "tasks", "--db-file", "job.db", "--format", "csv"],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert "internal error" not in done.stderr


@pytest.mark.parametrize("arguments", [(), ("config",)])
def test_group_without_a_command_prints_its_help(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    shown = capsys.readouterr()
    lines = (shown.out + shown.err).splitlines()
    assert ended.value.code in (0, 2)
    assert lines[0].startswith("Usage: cloud-tasks")
    assert "Options:" in lines
    assert not any(line.startswith("Error:") for line in lines)


# -- surroundings -----------------------------------------------------------------------------------------------------


def test_folder_that_cannot_be_written_is_reported(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder / ".cloud-tasks-load-x"))

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    line = refusal(capsys, "run", "--config", "config.yml", "--task-file", "tasks.json", "--dry-run")
    reason = "cannot create the job database: Permission denied; use another folder with --db-file"
    assert line == f"Error: {folder}: {reason}"


@pytest.mark.parametrize(
    ("error", "message", "code"),
    [
        (PermissionError(13, "Permission denied", "job.db"), "job.db: Permission denied; check the permissions", 2),
        (PermissionError(13, "Permission denied", "/x/y"), "/x/y: Permission denied; check the permissions", 1),
        (OSError(28, "No space left on device"), "No space left on device; free some space", 1),
        (OSError(24, "Too many open files", b"/x"), "too many open files", 1),
        (OSError("odd"), "odd", 1),
        (UnicodeEncodeError("utf-8", "\udce9", 0, 1, "no"), 'argument "a\\udce9": not valid UTF-8 text', 2),
        (UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "invalid"), "not UTF-8 text (invalid)", 1),
        (ValueError("embedded null byte"), "a path contains a NUL character; remove it", 2),
        (RecursionError("maximum"), "the input is nested too deeply", 2),
        (MemoryError(), "out of memory", 1),
        (
            sqlite3.DatabaseError("database disk image is malformed"),
            "job database: database disk image is malformed",
            1,
        ),
        (sqlite3.OperationalError("database or disk is full"), "job database: database or disk is full", 1),
        (
            sqlite3.OperationalError("Could not decode to UTF-8 column 'config' with text 'secret\n'"),
            "job database: text that is not UTF-8; the file is damaged",
            1,
        ),
    ],
)
def test_failure_of_the_surroundings_is_described(error: Exception, message: str, code: int) -> None:
    described = describe_failure(error, ["status", "--db-file", "job.db", "a\udce9"])
    assert described is not None
    assert described[0].startswith(message)
    assert described[1] == code


def test_failure_of_another_kind_is_an_internal_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert describe_failure(KeyError("x"), []) is None

    def fail(_: list[str]) -> int:
        raise KeyError("a\nb")

    monkeypatch.setattr(main_module, "_run", fail)
    with pytest.raises(SystemExit) as ended:
        main(["status"])
    assert ended.value.code == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_database_that_is_no_database_is_described(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    new_store(folder, ["a"]).close()
    content = (folder / "job.db").read_bytes()
    for length in (0, 1, 100, 4096, len(content) // 2):
        (folder / "job.db").write_bytes(content[:length] + os.urandom(64))
        for command in (["status"], ["logs", "a"], ["export", "tasks"], ["report"]):
            _, _, lines = call(capsys, *command, "--db-file", "job.db")
            assert "internal error" not in "\n".join(lines)


# -- empty input ------------------------------------------------------------------------------------------------------

EMPTY = {
    "a.json": "[]",
    "b.json": "",
    "c.json": '{"tasks": []}',
    "d.jsonl": "\n\n",
    "e.yaml": "",
    "f.py": "def tasks():\n    return []\n",
}


@pytest.mark.parametrize("name", EMPTY)
@pytest.mark.parametrize(
    "command",
    [("run", "--force"), ("run", "--dry-run"), ("load-queue", "--force"), ("load-queue", "--dry-run"), ("plan",)],
)
def test_empty_input_is_refused_and_nothing_is_changed(
    capsys: pytest.CaptureFixture[str], folder: Path, name: str, command: tuple[str, ...]
) -> None:
    new_store(folder, ["a", "b"]).close()
    before = (folder / "job.db").read_bytes()
    (folder / name).write_text(EMPTY[name])
    spec = f"{name}:tasks" if name.endswith(".py") else name
    code, _, lines = call(capsys, *command, "--config", "config.yml", "--task-file", spec)
    assert (code, lines) == (2, [f"Error: {spec}: no tasks; add --allow-empty to accept that"])
    assert (folder / "job.db").read_bytes() == before


def test_input_without_tasks_behind_the_first_ones_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("load-queue", "--config", "config.yml", "--task-file", "tasks.json", "--start-task", "5")
    assert (
        refusal(capsys, *arguments)
        == "Error: tasks.json: no tasks behind the first 4; add --allow-empty to accept that"
    )


@pytest.mark.parametrize("command", [("run", "--force"), ("run", "--dry-run"), ("load-queue", "--force"), ("plan",)])
def test_grid_of_too_many_tasks_is_refused_before_it_is_read(
    capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    for grid, number in (("x=1..1000000000000", "1,000,000,000,000"), ("x=1..20000;y=1..10000", "200,000,000")):
        line = refusal(capsys, *command, "--config", "config.yml", "--task-file", f"grid:{grid}")
        assert line == (
            f"Error: grid:{grid}: {number} tasks are more than the 100,000,000 that a job can have; "
            "split them into jobs, or let each task do more work"
        )


def test_part_of_a_large_grid_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("load-queue", "--config", "config.yml", "--task-file", "grid:x=1..1000000000000", "--limit", "3")
    code, _, lines = call(capsys, *arguments)
    assert (code, lines) == (0, [])


def test_empty_input_is_accepted_on_request(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "a.json").write_text("[]")
    for command in (["load-queue"], ["plan"]):
        code, _, lines = call(capsys, *command, "--config", "config.yml", "--task-file", "a.json", "--allow-empty")
        assert (code, lines) == (0, [])


def test_control_characters_of_values_are_escaped_in_errors(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "config.yml").write_text('provider: local\nrun: {job_id: "a\\nb\\e[31m", max_cpu: -1}\n')
    code, _, lines = call(capsys, "status", "--config", "config.yml")
    assert code == 2
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    assert '"a\\nb\\x1b[31m" is not a valid name' in "".join(lines)
