"""Text of tasks on the terminal and in logs: no control sequence, no forged line."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog

import cloud_tasks.cli
from cloud_tasks.cli.logging_setup import configure_logging, write_text
from cloud_tasks.cli.main import main
from cloud_tasks.cli.output import echo
from cloud_tasks.model import Task, TaskStatus
from cloud_tasks.report import render_task_log
from cloud_tasks.tables import Column, render_markdown_table, render_records, render_table
from cloud_tasks.worker.common.log import Log

HOSTILE = "\x1b]0;title\x07\x1b[2J\x1b[31mred\x9b31m\u202egnp.exe\nforged"
"""Sets the title, clears the screen, colours the text, reverses a name, begins a line."""
CONTROLS = {*map(chr, range(32)), *map(chr, range(127, 160)), "\u202e"} - {"\n"}


def assert_harmless(text: str, *, lines: int) -> None:
    assert not CONTROLS & set(text)
    assert "\\x1b" in text
    assert len(text.splitlines()) == lines


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_log_of_the_command_line_has_no_control_sequence(capsys: pytest.CaptureFixture[str], log_format: str) -> None:
    configure_logging(log_format=log_format)
    structlog.get_logger().warning(f"task {HOSTILE} failed", task_id=HOSTILE)
    shown = capsys.readouterr().err
    assert not CONTROLS & set(shown)
    assert len(shown.splitlines()) == 1


def test_block_of_the_log_keeps_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    write_text(f"Summary:\n  {HOSTILE}")
    assert_harmless(capsys.readouterr().err, lines=3)


def test_log_of_the_worker_has_no_control_sequence(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb", buffering=0) as file:
        log = Log(verbose=True, descriptor=file.fileno())
        log.info(f"task {HOSTILE}")
        log.hold(HOSTILE)
        log.error("failed:", block=f"Traceback\n{HOSTILE}\n")
    assert_harmless(path.read_text("utf-8"), lines=6)


def test_tables_have_no_control_sequence() -> None:
    columns = [Column[str](name="id", title="Task", value=lambda row: row)] * 2
    assert_harmless(render_table([HOSTILE], columns), lines=3)
    assert_harmless(render_records([HOSTILE], columns), lines=2)
    assert_harmless(render_markdown_table([HOSTILE], columns), lines=3)


def test_history_of_a_task_has_no_control_sequence() -> None:
    task = Task(task_id=HOSTILE, data={HOSTILE: HOSTILE})
    shown = render_task_log(task, TaskStatus.QUEUED, (), ())
    assert_harmless(shown, lines=3)


def test_echo_is_the_only_way_to_print() -> None:
    sources = Path(cloud_tasks.cli.__file__).parent.rglob("*.py")
    others = [path.name for path in sources if path.name != "output.py" and "click.echo(" in path.read_text("utf-8")]
    assert others == []


def test_echo_escapes_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    echo(f"Output:\n{HOSTILE}")
    assert_harmless(capsys.readouterr().out, lines=3)


def test_errors_have_no_control_sequence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["status", "--db-file", HOSTILE])
    assert_harmless(capsys.readouterr().err, lines=1)
