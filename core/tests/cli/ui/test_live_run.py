"""Live view and Ctrl-C prompt of `run` on a terminal."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from command_line import CommandLine, wait_until
from terminal import Screen

from cloud_tasks.store import Store

CONFIGURATION = """
provider: local
run:
  job_id: job
  max_instances: 1
  max_cpu: 4
  scaling_check_interval: 0.5
  instance_termination_delay: 0
  command: "while [ ! -e $CLOUD_TASKS_SUBMIT_DIR/open{gate} ]; do sleep 0.05; done; test {number} != 2"
local:
  vcpus: 4
  shutdown_grace: 0.5
"""
"""A task ends when its gate is open; the second one fails."""


class Office:
    """Folder with a job whose tasks finish when the test allows it."""

    def __init__(self, shell: CommandLine) -> None:
        self.shell = shell
        self.folder = shell.folder
        (self.folder / "config.yml").write_text(CONFIGURATION)
        tasks = [{"id": f"t{n}", "data": {"number": n, "gate": 1 if n < 3 else 2}} for n in range(1, 5)]
        (self.folder / "tasks.json").write_text(json.dumps(tasks))

    def open(self, *gates: int) -> None:
        for gate in gates:
            (self.folder / f"open{gate}").touch()

    def finished(self) -> int:
        with Store.open(self.folder / "job.db", read_only=True) as store:
            return store.summary().finished_tasks

    @contextmanager
    def running(self, *options: str) -> Iterator[Screen]:
        """Start a run on a terminal and wait for its first scaling check."""
        with Screen(self.folder, "run", "-c", "config.yml", "--task-file", "tasks.json", *options) as screen:
            wait_until(lambda: "0 of 4 tasks (0%)" in screen.shown)
            wait_until(lambda: len(self.shell.running("job")) == 1)
            yield screen

    def interrupt(self, screen: Screen, *, times: int = 1) -> None:
        """Press Ctrl-C and wait for the prompt."""
        screen.type("\x03")
        wait_until(lambda: screen.shown.count("[C]ontinue?") == times)


@pytest.fixture
def office(shell: CommandLine) -> Office:
    return Office(shell)


def test_live_view_shows_the_running_job_and_the_report_follows(office: Office) -> None:
    with office.running() as screen:
        office.open(1)
        wait_until(lambda: "2 of 4 tasks (50%)" in screen.shown)
        wait_until(lambda: re.search(r"Last failures .*\d\d:\d\d:\d\d +t2 +1 +\w", screen.shown, re.DOTALL))
        wait_until(lambda: "tasks/hour" in screen.shown)
        assert "so far" in screen.shown
        assert "projected total" in screen.shown
        assert "Running tasks" in screen.shown
        office.open(2)
        assert screen.end() == 3
    assert "INFO - Job finished, deleting queues" in screen.shown
    after = screen.shown.rpartition("=== JOB FINISHED: 1 of ")[2]
    assert "Total tasks: 4" in after
    assert "of 4 tasks (" not in after
    # The view replaces the log lines of the scaling checks.
    assert "Summary:" not in screen.shown
    assert "Checking if scaling is needed" not in screen.shown


def test_run_without_live_view_logs_on_a_terminal(office: Office) -> None:
    office.open(1, 2)
    with Screen(office.folder, "run", "-c", "config.yml", "--task-file", "tasks.json", "--no-live") as screen:
        assert screen.end() == 3
    assert "Summary:" in screen.shown
    assert "Checking if scaling is needed" in screen.shown
    assert "of 4 tasks (" not in screen.shown


def test_json_log_has_no_live_view(office: Office) -> None:
    office.open(1, 2)
    words = ("--log-format", "json", "run", "-c", "config.yml", "--task-file", "tasks.json")
    with Screen(office.folder, *words) as screen:
        assert screen.end() == 3
    assert "of 4 tasks (" not in screen.shown


def test_ctrl_c_and_t_terminate_the_instances(office: Office) -> None:
    with office.running("--no-dump-tasks") as screen:
        office.interrupt(screen)
        screen.type("t\n")
        assert screen.end() == 130
    assert "INFO - Interrupted: terminating all instances" in screen.shown
    assert office.shell.running("job") == set()
    assert office.finished() == 0


def test_ctrl_c_and_l_leave_the_instances_running_for_later(office: Office) -> None:
    with office.running("--no-dump-tasks") as screen:
        office.interrupt(screen)
        screen.type("L\n")
        assert screen.end() == 130
    assert "INFO - Interrupted: leaving the instances running" in screen.shown
    (left,) = office.shell.running("job")
    office.open(1, 2)
    again = office.shell.run("run", "-c", "config.yml", "--continue")
    assert again.code == 3, again.err
    assert office.finished() == 4
    with Store.open(office.folder / "job.db", read_only=True) as store:
        assert [record.instance_id for record in store.instances()] == [left]


def test_ctrl_c_and_c_carry_on_and_show_the_view_again(office: Office) -> None:
    with office.running() as screen:
        office.interrupt(screen)
        screen.type("c\n")
        wait_until(lambda: "INFO - The run continues" in screen.shown)
        office.open(1)
        wait_until(lambda: "2 of 4 tasks (50%)" in screen.shown)
        # It may be asked again.
        office.interrupt(screen, times=2)
        screen.type("\n")
        wait_until(lambda: screen.shown.count("INFO - The run continues") == 2)
        office.open(2)
        assert screen.end() == 3
    assert office.finished() == 4


def test_ctrl_c_twice_terminates_without_an_answer(office: Office) -> None:
    with office.running("--no-dump-tasks") as screen:
        office.interrupt(screen)
        screen.type("\x03")
        assert screen.end() == 130
    assert "INFO - Interrupted: terminating all instances" in screen.shown
    assert office.shell.running("job") == set()


def test_prompt_is_cancelled_when_the_job_ends(office: Office) -> None:
    with office.running() as screen:
        office.interrupt(screen)
        office.open(1, 2)
        assert screen.end() == 3
    assert "=== JOB FINISHED: 1 of " in screen.shown


def test_broken_pipe_of_the_log_stops_nothing(office: Office) -> None:
    process = office.shell.start("run", "-c", "config.yml", "--task-file", "tasks.json")
    assert process.stderr is not None
    process.stderr.readline()
    process.stderr.close()
    wait_until(lambda: len(office.shell.running("job")) == 1)
    office.open(1, 2)
    assert process.stdout is not None
    assert "Total tasks: 4" in process.stdout.read()
    assert process.wait(timeout=60) == 3
    office.shell.processes.remove(process)
    process.stdout.close()


def test_interrupt_without_a_terminal_terminates_without_confirmation(office: Office) -> None:
    process = office.shell.start("run", "-c", "config.yml", "--task-file", "tasks.json")
    wait_until(lambda: len(office.shell.running("job")) == 1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "[C]ontinue?" not in err
    assert "\x1b" not in err
    assert office.shell.running("job") == set()
