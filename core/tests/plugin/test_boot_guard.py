"""The boot guard with real shells and processes: every end of an instance that no worker and no controller causes."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from boot_shell import kill_guards, run_script, start_script

from cloud_tasks.plugin import boot_script

ENDED = {"shutdown": 'echo "shut down: $@" >> ended', "poweroff": 'echo "power off" >> ended'}
WORKER = "printf %s $CLOUD_TASKS_PROCESS_NAME > /proc/$$/comm; echo $$ > worker.pid; sleep 100; true\n"
"""A process with the name that a worker gives its own."""
LANGUAGES = {
    "sh": "#!/bin/sh -eu\nfalse\n",
    "bash": "#!/bin/bash\nset -euo pipefail\nfalse | true\n",
    "python": "#!/usr/bin/env python3\nraise SystemExit(1)\n",
    "perl": "#!/usr/bin/perl\ndie 'no worker';\n",
    "none": "exit 1\n",
    "syntax error": "#!/bin/sh\nif then\n",
    "unknown program": "#!/bin/sh\nexec /nowhere/program\n",
}


@pytest.fixture(autouse=True)
def no_guard_left(tmp_path: Path) -> Iterator[None]:
    yield
    kill_guards(tmp_path)


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def ended(folder: Path) -> str:
    """Return what the instance ran to end itself."""
    file = folder / "ended"
    return file.read_text() if file.exists() else ""


def console(folder: Path) -> str:
    file = folder / "root" / "dev" / "console"
    return file.read_text() if file.exists() else ""


def await_end(folder: Path) -> None:
    eventually(lambda: ended(folder).endswith("\n"), "the instance did not end")


def guard_runs(folder: Path) -> bool:
    mark = f"CLOUD_TASKS_BOOT_ROOT={folder / 'root'}".encode()

    def has_mark(entry: Path) -> bool:
        try:
            return b"cloud-tasks\0" in (entry / "cmdline").read_bytes() and mark in (entry / "environ").read_bytes()
        except OSError:
            return False

    return any(has_mark(entry) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def as_after_a_restart(folder: Path) -> None:
    """Change the recorded boot, as if the machine had been restarted, and remove its processes."""
    eventually(lambda: (folder / "root/var/lib/cloud-tasks/guard").exists(), "nothing was recorded")
    kill_guards(folder)
    file = folder / "root/var/lib/cloud-tasks/boot"
    file.write_text(file.read_text().splitlines()[0] + "\nanother-boot\n")


def start(folder: Path, script: str, environment: Mapping[str, str] | None = None, **options: object) -> None:
    """Start a script whose output nobody reads."""
    process = start_script(boot_script(script, **options), folder, programs=ENDED, **(environment or {}))  # type: ignore[arg-type]
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stderr.close()
    # A process that nobody waits for would still exist after its end.
    threading.Thread(target=process.wait, daemon=True).start()


# -- 1: without a worker --


@pytest.mark.parametrize("language", LANGUAGES)
def test_instance_whose_script_failed_ends_after_the_grace_period(language: str, tmp_path: Path) -> None:
    run_script(
        boot_script(LANGUAGES[language]), tmp_path, programs=ENDED, CLOUD_TASKS_BOOT_GRACE="1", TMPDIR=str(tmp_path)
    )
    await_end(tmp_path)
    assert ended(tmp_path) == "shut down: -h now\n"
    assert console(tmp_path) == "cloud-tasks: the startup script ended, and no worker runs; this instance ends\n"


def test_instance_whose_script_was_killed_ends(tmp_path: Path) -> None:
    start(tmp_path, "#!/bin/sh\nkill -9 $$\n", {"CLOUD_TASKS_BOOT_GRACE": "1"})
    await_end(tmp_path)


def test_instance_whose_script_hangs_without_worker_ends_after_the_startup_timeout(tmp_path: Path) -> None:
    start(
        tmp_path,
        "#!/bin/bash\nexec sleep 100\n",
        {"CLOUD_TASKS_BOOT_GRACE": "1"},
        startup_timeout=timedelta(seconds=1),
    )
    await_end(tmp_path)
    assert console(tmp_path) == "cloud-tasks: no worker started within 1 s; this instance ends\n"


def test_instance_whose_script_hangs_stays_without_startup_timeout(tmp_path: Path) -> None:
    start(tmp_path, "#!/bin/sh\ntouch started\nsleep 3\n", {"CLOUD_TASKS_BOOT_GRACE": "1"})
    eventually(lambda: (tmp_path / "started").exists(), "the script did not start")
    time.sleep(2)
    assert not ended(tmp_path)
    await_end(tmp_path)
    assert "the startup script ended" in console(tmp_path)


@pytest.mark.parametrize("script", ["{worker}", "( {worker} ) & exit 0", "setsid sh worker & exit 0"])
def test_worker_cancels_the_startup_timeout_and_its_end_ends_the_instance(script: str, tmp_path: Path) -> None:
    (tmp_path / "worker").write_text(WORKER)
    start(
        tmp_path,
        f"#!/bin/sh\n{script.format(worker='sh worker')}\n",
        {"CLOUD_TASKS_BOOT_GRACE": "2"},
        startup_timeout=timedelta(seconds=1),
    )
    eventually(lambda: (tmp_path / "worker.pid").exists(), "the worker did not start")
    time.sleep(4)
    assert not ended(tmp_path)
    os.kill(int((tmp_path / "worker.pid").read_text()), signal.SIGKILL)
    await_end(tmp_path)
    assert "the startup script ended, and no worker runs" in console(tmp_path)


def test_script_may_continue_after_its_worker(tmp_path: Path) -> None:
    (tmp_path / "worker").write_text(WORKER.replace("sleep 100", "sleep 2"))
    start(
        tmp_path,
        "#!/bin/sh\nsh worker\nsleep 4\n",
        {"CLOUD_TASKS_BOOT_GRACE": "1"},
        startup_timeout=timedelta(seconds=1),
    )
    eventually(lambda: (tmp_path / "worker.pid").exists(), "the worker did not start")
    time.sleep(4)
    assert not ended(tmp_path)
    await_end(tmp_path)


def test_worker_of_another_instance_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "worker").write_text(WORKER)
    start(
        tmp_path,
        "#!/bin/sh\nCLOUD_TASKS_PROCESS_NAME=ctw-0 sh worker\n",
        {"CLOUD_TASKS_BOOT_GRACE": "1"},
        startup_timeout=timedelta(seconds=1),
    )
    await_end(tmp_path)


# -- 2: another boot --


def test_second_boot_ends_the_instance_at_once(tmp_path: Path) -> None:
    start(tmp_path, "#!/bin/sh\nsleep 100\n")
    as_after_a_restart(tmp_path)
    start(tmp_path, "#!/bin/sh\nsleep 100\n")
    await_end(tmp_path)
    assert console(tmp_path) == "cloud-tasks: it was restarted; this instance ends\n"


@pytest.mark.parametrize("end_command", [None, "echo 'it is \"gone\" $HOME' >> ended"])
def test_second_boot_without_the_script_ends_the_instance(end_command: str | None, tmp_path: Path) -> None:
    hooks = tmp_path / "root/var/lib/cloud/scripts/per-boot"
    hooks.mkdir(parents=True)
    start(tmp_path, "#!/bin/sh\nsleep 100\n", end_command=end_command)
    as_after_a_restart(tmp_path)
    run_script((hooks / "cloud-tasks").read_text(), tmp_path, programs=ENDED)
    await_end(tmp_path / "root/var/lib/cloud-tasks")
    expected = "shut down: -h now\n" if end_command is None else 'it is "gone" $HOME\n'
    assert ended(tmp_path / "root/var/lib/cloud-tasks") == expected


def test_script_that_runs_again_in_the_same_boot_continues(tmp_path: Path) -> None:
    start(tmp_path, "#!/bin/sh\nexit 0\n")
    eventually(lambda: (tmp_path / "root/var/lib/cloud-tasks/guard").exists(), "nothing was recorded")
    start(tmp_path, "#!/bin/sh\nsleep 100\n")
    time.sleep(1)
    assert not ended(tmp_path)


def test_script_that_removes_the_mark_may_restart_the_machine_within_its_lifetime(tmp_path: Path) -> None:
    start(tmp_path, "#!/bin/sh\nsleep 100\n", max_lifetime=timedelta(seconds=4))
    as_after_a_restart(tmp_path)
    (tmp_path / "root/var/lib/cloud-tasks/boot").unlink()
    time.sleep(1)
    start(tmp_path, "#!/bin/sh\nsleep 100\n", max_lifetime=timedelta(seconds=600))
    await_end(tmp_path)
    assert "its maximum lifetime is over" in console(tmp_path)


def test_machine_made_from_the_disk_of_an_instance_starts(tmp_path: Path) -> None:
    """Another machine has another identity; what the first one recorded does not concern it."""
    data, hooks = tmp_path / "root/var/lib/cloud/data", tmp_path / "root/var/lib/cloud/scripts/per-boot"
    data.mkdir(parents=True)
    hooks.mkdir(parents=True)
    (data / "instance-id").write_text("i-1\n")
    start(tmp_path, "#!/bin/sh\nsleep 100\n", max_lifetime=timedelta(seconds=2))
    as_after_a_restart(tmp_path)
    (data / "instance-id").write_text("i-2\n")
    time.sleep(2)
    run_script((hooks / "cloud-tasks").read_text(), tmp_path, programs=ENDED)
    start(tmp_path, "#!/bin/sh\ntouch started\nsleep 100\n", max_lifetime=timedelta(seconds=600))
    eventually(lambda: (tmp_path / "started").exists(), "the script did not start")
    time.sleep(2)
    assert not ended(tmp_path)
    assert not ended(tmp_path / "root/var/lib/cloud-tasks")


# -- 3: the maximum lifetime --


@pytest.mark.parametrize("shell", ["bash", "sh", "python3"])
@pytest.mark.parametrize(
    ("end_command", "ends"),
    [(None, "shut down: -h now\n"), ("echo deleted >> ended", "deleted\n"), ("false", "shut down: -h now\n")],
)
def test_max_lifetime_ends_the_instance_while_the_script_runs(
    end_command: str | None, ends: str, shell: str, tmp_path: Path
) -> None:
    script = "import time; time.sleep(100)" if shell == "python3" else "sleep 100"
    start(
        tmp_path,
        f"#!/usr/bin/env {shell}\n{script}\n",
        {"TMPDIR": str(tmp_path)},
        max_lifetime=timedelta(seconds=0.2),
        end_command=end_command,
    )
    await_end(tmp_path)
    assert ended(tmp_path) == ends
    assert console(tmp_path) == "cloud-tasks: its maximum lifetime is over; this instance ends\n"


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_max_lifetime_ends_the_instance_after_a_failed_line(shell: str, tmp_path: Path) -> None:
    start(tmp_path, f"#!/usr/bin/env -S {shell} -e\n", max_lifetime=timedelta(seconds=1), lines=["false"])
    await_end(tmp_path)
    assert "maximum lifetime" in console(tmp_path)


def test_max_lifetime_does_not_need_a_disk(tmp_path: Path) -> None:
    (tmp_path / "root/var/lib").mkdir(parents=True)
    (tmp_path / "root/var/lib/cloud-tasks").write_text("no folder can be made here")
    start(tmp_path, "#!/bin/sh\nsleep 100\n", max_lifetime=timedelta(seconds=1))
    await_end(tmp_path)


def test_max_lifetime_survives_a_damaged_record(tmp_path: Path) -> None:
    start(tmp_path, "#!/bin/sh\nsleep 100\n", max_lifetime=timedelta(seconds=600))
    eventually(lambda: (tmp_path / "root/var/lib/cloud-tasks/guard").exists(), "nothing was recorded")
    kill_guards(tmp_path)
    file = tmp_path / "root/var/lib/cloud-tasks/deadline"
    file.write_text(file.read_text().splitlines()[0] + "\n12 o'clock $(touch hacked)\n")
    start(tmp_path, "#!/bin/sh\nsleep 100\n", max_lifetime=timedelta(seconds=1))
    await_end(tmp_path)
    assert not (tmp_path / "hacked").exists()


def test_max_lifetime_is_not_extended_by_a_clock_that_was_set_back(tmp_path: Path) -> None:
    start(tmp_path, "#!/bin/sh\nsleep 100\n", max_lifetime=timedelta(seconds=600))
    eventually(lambda: (tmp_path / "root/var/lib/cloud-tasks/guard").exists(), "nothing was recorded")
    kill_guards(tmp_path)
    file = tmp_path / "root/var/lib/cloud-tasks/deadline"
    file.write_text(file.read_text().splitlines()[0] + "\n99999999999\n")
    start(tmp_path, "#!/bin/sh\nsleep 100\n", max_lifetime=timedelta(seconds=1))
    await_end(tmp_path)


# -- 4, 5: the end --


def test_end_is_repeated_until_the_instance_is_gone(tmp_path: Path) -> None:
    programs = {**ENDED, "sleep": "exec /bin/sleep 0.2"}
    run_script(boot_script("#!/bin/sh\n"), tmp_path, programs=programs, CLOUD_TASKS_BOOT_GRACE="1")
    eventually(lambda: ended(tmp_path).count("shut down") >= 3, "the end was not repeated")


def test_end_uses_another_program_where_shutdown_fails(tmp_path: Path) -> None:
    programs = {**ENDED, "shutdown": "exit 1"}
    run_script(boot_script("#!/bin/sh\n"), tmp_path, programs=programs, CLOUD_TASKS_BOOT_GRACE="1")
    await_end(tmp_path)
    assert ended(tmp_path) == "power off\n"


@pytest.mark.parametrize(("command", "expected"), [("echo mine >> ended", "mine\n"), ("false", "shut down: -h now\n")])
def test_end_without_a_worker_uses_the_power_off_command_of_the_instance(
    command: str, expected: str, tmp_path: Path
) -> None:
    environment = {"CLOUD_TASKS_POWER_OFF_COMMAND": command, "CLOUD_TASKS_BOOT_GRACE": "1"}
    run_script(boot_script("#!/bin/sh\n"), tmp_path, programs=ENDED, **environment)
    await_end(tmp_path)
    assert ended(tmp_path) == expected


def test_script_ends_although_its_guard_runs(tmp_path: Path) -> None:
    """Whoever reads the output of the script until its end does not wait for the guard."""
    assert run_script(boot_script("#!/bin/sh\necho out\necho err >&2\nexit 3\n"), tmp_path) == (3, "out\n", "err\n")
    assert guard_runs(tmp_path)
