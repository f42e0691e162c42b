"""Runner process of one instance: runs the startup script, and exits with it or at the end of the instance's lifetime.

Started by `LocalCompute.launch`, it does not depend on the controller: it enforces the maximum lifetime, the time limit
for the start of a worker, the simulated spot interruption and the power-off. Standard library only, as every instance
starts it.

Invariants, each with a test:

1. At most one runner process runs per instance; a second one exits without effect.
2. When it exits for any reason but SIGKILL, no process started by its script is left.
3. An instance whose folder was deleted ends: no listing shows it any more, so nothing else would end it.
4. An instance whose script runs without a worker ends at the time limit, without a controller.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cloud_tasks_local.instance_folder import InstanceFolder, InstanceLockedError
from cloud_tasks_local.processes import instance_processes, kill_all, process_name, start_time

__all__ = ["main"]

_PR_SET_CHILD_SUBREAPER = 36
_WATCHED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LOCK_TIMEOUT = 2.0
_FOLDER_CHECK = 2.0
"""Seconds between two checks that the instance's folder still exists."""


def main(path: str) -> int:
    """Start a detached runner process for the folder; return 0 when it, or another one, has registered itself.

    Standard input is a JSON object with the script's secret variables.
    """
    secrets: dict[str, str] = json.load(sys.stdin)
    read_end, write_end = os.pipe()
    if os.fork():
        os.close(write_end)
        return 0 if os.read(read_end, 1) else 1
    os.close(read_end)
    os.setsid()
    _detach()
    folder = InstanceFolder(Path(path))
    deadline = time.monotonic() + _LOCK_TIMEOUT
    while True:
        try:
            with folder.hold():
                _run_locked(folder, write_end, secrets)
            return 0
        except InstanceLockedError:
            if folder.process.exists() or folder.ended.exists():
                os.write(write_end, b"1")
                return 0
            if time.monotonic() > deadline:
                return 1
        time.sleep(0.01)


def _run_locked(folder: InstanceFolder, confirmation: int, secrets: dict[str, str]) -> None:
    if folder.process.exists() or folder.ended.exists() or folder.terminating.exists():
        os.write(confirmation, b"1")
        return
    record = folder.read(folder.instance)
    if record is None:
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    for number in _WATCHED:
        # The launcher may ignore some signals, as nohup does, and ignored signals never arrive.
        signal.signal(number, signal.SIG_DFL)
    _adopt_orphans()
    process = {"pid": os.getpid(), "started": start_time(os.getpid()), "at": _now().isoformat()}
    folder.write(folder.process, process)
    os.write(confirmation, b"1")
    os.close(confirmation)
    try:
        reason, exit_code = _run(folder, record, secrets)
    finally:
        kill_all(folder.path, root=os.getpid())
    ended = {"at": _now().isoformat(), "reason": reason, "exit_code": exit_code}
    _log(folder, f"instance terminated: {reason}" + ("" if exit_code is None else f" (exit code {exit_code})"))
    with contextlib.suppress(OSError):
        folder.work.rmdir()
    # Without its folder, or without disk space, the next listing records the end.
    with contextlib.suppress(OSError):
        if folder.instance.exists():
            folder.write_once(folder.ended, ended)


def _run(folder: InstanceFolder, record: dict[str, Any], secrets: dict[str, str]) -> tuple[str, int | None]:
    """Run the script until it exits or has to be stopped; return the reason, and the exit code if it exited by
    itself."""
    # The name that a worker gives its process, and the time from which it measures its lifetime.
    worker = os.environ["CLOUD_TASKS_PROCESS_NAME"] = f"ctw-{os.getpid()}"
    os.environ["CLOUD_TASKS_BOOT_UPTIME"] = f"{time.clock_gettime(time.CLOCK_BOOTTIME):.2f}"
    script = _start(folder, secrets)
    started = time.monotonic()
    lifetime, spot_lifetime = record["max_lifetime"], record["spot_lifetime"]
    ends: list[tuple[float, str]] = []
    # Records of earlier versions have no such limit.
    is_awaited = record.get("startup_timeout") is not None
    if is_awaited:
        ends.append((started + record["startup_timeout"], "no worker started"))
    if lifetime is not None:
        ends.append((started + lifetime, "max_lifetime"))
    if spot_lifetime is not None:
        ends.append((started + spot_lifetime, "preempted"))
        ends.append((started + max(0.0, spot_lifetime - record["spot_notice"]), "notice"))
    ends.sort()
    while True:
        if ends and time.monotonic() >= ends[0][0]:
            _, what = ends.pop(0)
            if what == "no worker started" and not (is_awaited and not _has_process(folder, worker)):
                continue
            if what != "notice":
                _stop(script, 0.0 if what == "preempted" else record["shutdown_grace"])
                return what, None
            # Without disk space there is no notice, and the interruption still takes place.
            with contextlib.suppress(OSError):
                _write_notice(folder, started + spot_lifetime)
            continue
        wait = min(_FOLDER_CHECK, ends[0][0] - time.monotonic()) if ends else _FOLDER_CHECK
        received = signal.sigtimedwait(_WATCHED, max(wait, 0.0))
        is_awaited = is_awaited and not _has_process(folder, worker)
        if not folder.instance.exists():
            _stop(script, record["shutdown_grace"])
            return "instance folder deleted", None
        if received is None:
            continue
        if received.si_signo != signal.SIGCHLD:
            _stop(script, record["shutdown_grace"])
            return "terminated", None
        exit_code = _reap(script)
        if exit_code is not None:
            return "startup script exited", exit_code


def _start(folder: InstanceFolder, secrets: dict[str, str]) -> int:
    """Start the script in its own session; return its pid, which is its process group id too."""
    folder.work.mkdir(mode=0o700, exist_ok=True)
    console = os.open(folder.console, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    pid = os.fork()
    if pid:
        os.close(console)
        return pid
    try:
        os.setsid()
        os.dup2(console, 1)
        os.dup2(console, 2)
        os.chdir(folder.work)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for number in (*_WATCHED, signal.SIGQUIT, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        command = _command(folder.script)
        os.execvpe(command[0], command, {**os.environ, **secrets})
    except BaseException as error:
        os.write(2, f"cannot start the startup script: {error}\n".encode())
    finally:
        os._exit(127)


def _command(script: Path) -> list[str]:
    """Return the command of a script by its ``#!`` line, as the system reads it; bash, if it has none."""
    with script.open("rb") as file:
        first = file.readline(4096)
    interpreter = os.fsdecode(first[2:]).strip().split(None, 1) if first.startswith(b"#!") else []
    return [*(interpreter or ["bash"]), str(script)]


def _stop(script: int, grace: float) -> None:
    """Send SIGTERM to the script's process group, and wait for the script; the caller kills the rest."""
    deadline = time.monotonic() + grace
    with contextlib.suppress(ProcessLookupError):
        os.killpg(script, signal.SIGTERM)
    while (remaining := deadline - time.monotonic()) > 0 and _reap(script) is None:
        signal.sigtimedwait((signal.SIGCHLD,), remaining)


def _reap(script: int) -> int | None:
    """Reap exited children; return the script's exit code (128 + signal) once it is among them."""
    exit_code = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            if pid == script:
                code = os.waitstatus_to_exitcode(status)
                exit_code = code if code >= 0 else 128 - code
    return exit_code


def _has_process(folder: InstanceFolder, name: str) -> bool:
    """Return whether a process of this name belongs to the instance."""
    return any(process_name(pid) == name for pid in instance_processes(folder.path, root=os.getpid()))


def _write_notice(folder: InstanceFolder, end: float) -> None:
    at = _now() + timedelta(seconds=end - time.monotonic())
    folder.write(folder.notice, {"at": at.isoformat(), "reason": "simulated spot interruption"})
    _log(folder, f"simulated spot interruption notice: termination at {at.isoformat(timespec='seconds')}")


def _log(folder: InstanceFolder, text: str) -> None:
    with contextlib.suppress(OSError), folder.console.open("a", encoding="utf-8") as console:
        console.write(f"[{_now().isoformat(timespec='seconds')}] {text}\n")


def _now() -> datetime:
    return datetime.now(UTC)


def _adopt_orphans() -> None:
    """Become the parent of orphaned processes of the script, so that they stay descendants.

    Without it (a Python without ctypes), only the marker in the environment identifies them.
    """
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _detach() -> None:
    """Detach from the launcher's terminal and pipes."""
    devnull = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(devnull, descriptor)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
