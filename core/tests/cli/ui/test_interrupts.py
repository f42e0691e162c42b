"""Signals during `run` in separate processes: before the controller exists, at the prompt, and during the end."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command_line import CommandLine, wait_until
from store_facts import at, completed, instance, launch_request, new_store
from terminal import Screen

from cloud_tasks.store import JobState, Store

SUPPORT = Path(__file__).parents[2] / "support"
PROGRAM = f"""
import sys, time
sys.path.insert(0, {str(SUPPORT)!r})
from contextlib import contextmanager
from pathlib import Path
from cloud_tasks.cli.context import AppContext
from cloud_tasks.cli.main import cli
from cloud_tasks.errors import ProviderError
from memory_commands import MemoryCommands

class Changed:
    def __init__(self, inner):
        self._inner = inner
    def __getattr__(self, name):
        return getattr(self._inner, name)

class Unlisted(Changed):
    def instances(self, *arguments, **options):
        if Path("unlisted").exists():
            raise ProviderError("listing is out of order", transient=True)
        return self._inner.instances(*arguments, **options)

class Slow(Changed):
    def receive(self, *arguments, **options):
        while Path("slow").exists():
            time.sleep(0.02)
        return self._inner.receive(*arguments, **options)

@contextmanager
def open_compute(settings, context):
    with commands.provider.compute.open(settings, context) as compute:
        yield Unlisted(compute)

@contextmanager
def open_queue(settings, context):
    with commands.provider.queue.open(settings, context) as queue:
        yield Slow(queue) if context.name.endswith("-events") else queue

commands = MemoryCommands(compute={{"open": open_compute}}, queue={{"open": open_queue}})
words = "run --provider memory --job-id job --command true --no-dump-tasks --max-instances 1".split()
code = cli.main(args=[*words, *sys.argv[1:]], obj=AppContext(registry=commands.registry), standalone_mode=False)
print("instances:", len(commands.provider.compute.open(None, None).__enter__().instances("job")))
sys.exit(code)
"""
"""`run` on a provider in memory: with a file ``unlisted`` its instances cannot be listed, with ``slow`` no event
arrives."""


@pytest.fixture
def finished_job(tmp_path: Path) -> Path:
    """Folder with a job whose tasks are finished, and whose last instance was not terminated yet."""
    with new_store(tmp_path, ["a"]) as store:
        store.set_state(JobState.RUNNING, at(0))
        store.record_intents([launch_request("token")], at(0), slots=4)
        store.record_launched("token", instance("i-left", "token"))
        store.apply_events([completed("a", timestamp=at(60))])
    (tmp_path / "unlisted").touch()
    return tmp_path


@contextmanager
def ending(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run that is ending and cannot list its instances, without a terminal."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "--continue"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        seen = ""
        while "could not be listed" not in seen or "the run has ended" not in seen:
            line = process.stderr.readline()
            assert line, seen
            seen += line
        yield process
    finally:
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stderr is not None
    while line := process.stderr.readline():
        if text in line:
            return line
    raise AssertionError(f"{text} was not logged")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_during_the_end_shows_what_is_left_and_the_second_exits_with_the_ids(
    finished_job: Path, number: signal.Signals
) -> None:
    with ending(finished_job) as process:
        process.send_signal(signal.SIGINT)
        line = read_until(process, "The run is ending")
        assert "1 instance left to terminate; interrupt again to exit at once" in line
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    command = "cloud-tasks stop --provider memory --job-id job --command true --max-instances 1"
    assert f"Exiting at once, 1 instance left to terminate: i-left; terminate with `{command}`" in err
    # Nothing was interrupted, so nothing claims to have been.
    assert "Interrupted" not in err
    with Store.open(finished_job / "job.db") as store:
        assert store.summary().finished


def test_single_signal_during_the_end_changes_nothing(finished_job: Path) -> None:
    with ending(finished_job) as process:
        process.send_signal(signal.SIGTERM)
        read_until(process, "The run is ending")
        (finished_job / "unlisted").unlink()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, "=== JOB COMPLETE ===" in out) == (0, True), err
    assert "Interrupted" not in err


@contextmanager
def asking(folder: Path) -> Iterator[Screen]:
    """Run on a terminal with one instance, after one interrupt."""
    (folder / "tasks.json").write_text('[{"id": "a", "data": {}}]')
    (folder / "slow").touch()
    with Screen(folder, "--task-file", "tasks.json", program=PROGRAM) as screen:
        wait_until(lambda: "0 of 1 task" in screen.shown)
        wait_until(lambda: (folder / "job.db").exists() and running(folder) == 1)
        screen.type("\x03")
        wait_until(lambda: "[C]ontinue?" in screen.shown)
        yield screen


def running(folder: Path) -> int:
    with Store.open(folder / "job.db", read_only=True) as store:
        return sum(record.instance_id is not None and record.ended_at is None for record in store.instances())


def test_terminate_after_leave_terminates(tmp_path: Path) -> None:
    with asking(tmp_path) as screen:
        screen.type("l\n")
        wait_until(lambda: "Interrupted: leaving the instances running" in screen.shown)
        screen.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "Interrupted: terminating all instances" in screen.shown)
        (tmp_path / "slow").unlink()
        assert screen.end() == 130
    assert "instances: 0" in screen.shown
    assert running(tmp_path) == 0


def test_ctrl_c_after_leave_shows_what_is_left_and_then_exits(tmp_path: Path) -> None:
    with asking(tmp_path) as screen:
        screen.type("l\n")
        wait_until(lambda: "Interrupted: leaving the instances running" in screen.shown)
        screen.type("\x03")
        wait_until(lambda: "The run is ending, 1 instance left running" in screen.shown)
        screen.type("\x03")
        assert screen.end() == 130
    assert "Exiting at once, 1 instance left running: " in screen.shown
    assert "terminating all instances" not in screen.shown


def test_ctrl_c_twice_at_the_prompt_terminates(tmp_path: Path) -> None:
    with asking(tmp_path) as screen:
        screen.type("\x03")
        wait_until(lambda: "Interrupted: terminating all instances" in screen.shown)
        (tmp_path / "slow").unlink()
        assert screen.end() == 130
    assert "instances: 0" in screen.shown
    assert "The run continues" not in screen.shown


@contextmanager
def running_on_a_terminal(folder: Path, *options: str, program: str = PROGRAM) -> Iterator[Screen]:
    """Run on a terminal with one instance, of which no event arrives yet."""
    (folder / "tasks.json").write_text('[{"id": "a", "data": {}}]')
    (folder / "slow").touch()
    with Screen(folder, "--task-file", "tasks.json", *options, program=program) as screen:
        wait_until(lambda: (folder / "job.db").exists() and running(folder) == 1)
        yield screen


LOG = Path(".cloud-tasks", "job", "controller.log")


def finished_without_terminal(folder: Path, screen: Screen) -> str:
    """Let the run end; return the log of its controller."""
    wait_until(lambda: (folder / LOG).exists() and "the run continues" in (folder / LOG).read_text())
    (folder / "slow").unlink()
    screen.process.send_signal(signal.SIGTERM)
    assert screen.end() == 130
    assert running(folder) == 0
    assert ((folder / LOG).stat().st_mode & 0o777, (folder / LOG).parent.stat().st_mode & 0o777) == (0o600, 0o700)
    return (folder / LOG).read_text()


@pytest.mark.parametrize("options", [(), ("--no-live",)])
def test_run_continues_in_a_log_file_when_its_terminal_is_closed(tmp_path: Path, options: tuple[str, ...]) -> None:
    with running_on_a_terminal(tmp_path, *options) as screen:
        screen.close()
        log = finished_without_terminal(tmp_path, screen)
    assert "Interrupted: terminating all instances" in log
    assert "instances: 0" in log


def test_closed_terminal_at_the_prompt_continues_the_run(tmp_path: Path) -> None:
    with asking(tmp_path) as screen:
        screen.close()
        finished_without_terminal(tmp_path, screen)


def test_closed_terminal_terminates_where_the_user_chose_that(tmp_path: Path) -> None:
    with running_on_a_terminal(tmp_path, "--on-interrupt", "terminate") as screen:
        screen.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "Interrupted: terminating all instances" in screen.shown)
        (tmp_path / "slow").unlink()
        assert screen.end() == 130


@pytest.mark.parametrize(
    ("policy", "done"),
    [("leave", "Interrupted: leaving the instances running"), ("terminate", "Interrupted: terminating all instances")],
)
@pytest.mark.parametrize("options", [(), ("--no-live",)])
def test_closed_terminal_ends_the_run_with_the_code_of_an_interrupt(
    tmp_path: Path, policy: str, done: str, options: tuple[str, ...]
) -> None:
    with running_on_a_terminal(tmp_path, "--on-interrupt", policy, *options) as screen:
        screen.close()
        wait_until(lambda: (tmp_path / LOG).exists() and done in (tmp_path / LOG).read_text())
        (tmp_path / "slow").unlink()
        assert screen.end() == 130
    assert running(tmp_path) == (1 if policy == "leave" else 0)


def test_ignored_hangup_stays_ignored(tmp_path: Path) -> None:
    ignoring = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    with running_on_a_terminal(tmp_path, program=ignoring + PROGRAM) as screen:
        screen.process.send_signal(signal.SIGHUP)
        screen.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "Interrupted: terminating all instances" in screen.shown)
        (tmp_path / "slow").unlink()
        assert screen.end() == 130
    assert not (tmp_path / LOG).exists()


REDIRECTED = """
import os, sys
from pathlib import Path
from cloud_tasks.cli.ui.hangup import leave_terminal
output = os.open("output", os.O_WRONLY | os.O_CREAT)
os.dup2(output, 1)
assert leave_terminal(Path("logs/job/log")) is True
os.write(1, b"to output")
os.write(2, b"to log")
assert os.read(0, 1) == b""
"""


def test_redirected_streams_stay_where_they_are(tmp_path: Path) -> None:
    with Screen(tmp_path, program=REDIRECTED) as screen:
        assert screen.end() == 0, screen.shown
    assert ((tmp_path / "output").read_text(), (tmp_path / "logs/job/log").read_text()) == ("to output", "to log")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_before_the_controller_exists_interrupts_the_setup(shell: CommandLine, number: signal.Signals) -> None:
    shell.configure()
    (shell.folder / "endless.py").write_text(
        "import pathlib, time\n"
        "def tasks():\n"
        "    pathlib.Path('loading').touch()\n"
        "    while True:\n"
        "        time.sleep(0.02)\n"
        "    yield\n"
    )
    process = shell.start("run", "--config", "config.yml", "--task-file", "endless:tasks")
    wait_until((shell.folder / "loading").exists)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.splitlines()[-1]) == (130, "", "Error: interrupted")
    assert not (shell.folder / "job.db").exists()
    assert list(shell.folder.glob(".cloud-tasks-load-*")) == []
