"""The user's program of the worker's tests: the data of each task names the action."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import cloud_tasks
from cloud_tasks.worker import Worker, WorkerData

FOLDER = Path(os.environ.get("PROGRAM_FOLDER", "."))


def note(name: str, text: object) -> None:
    with (FOLDER / name).open("a") as file:
        file.write(f"{text}\n")


def sleeper() -> int:
    """Start a process that sleeps; note and return its pid."""
    process = subprocess.Popen(["sleep", "1000"])
    note("pids", process.pid)
    return process.pid


def escaped_sleeper() -> None:
    """Start a sleeping process that has left the session and whose parent has exited."""
    if os.fork() == 0:
        os.setsid()
        sleeper()
        os._exit(0)
    os.wait()


def ignore_everything() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sleeper()
    note("pids", os.getpid())
    while True:
        time.sleep(0.05)


def crash() -> None:
    ctypes.string_at(0)


def bomb() -> None:
    """Start processes that start processes, each in a session of its own."""
    for _ in range(4):
        if os.fork() == 0:
            os.setsid()
            for _ in range(3):
                if os.fork() == 0:
                    note("pids", os.getpid())
                    time.sleep(1000)
            time.sleep(1000)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and len((FOLDER / "pids").read_text().split()) < 12:
        time.sleep(0.01)


def retry_until(path: str, attempts: int, data: WorkerData) -> Any:
    note(path, data.attempt)
    return data.attempt < attempts, f"attempt {data.attempt}"


def do(what: str, fields: dict[str, Any], data: WorkerData) -> Any:
    while "until" in fields and not (FOLDER / fields["until"]).exists():
        time.sleep(0.01)
    if what == "raise":
        raise ValueError(fields.get("message", "no good"))
    if what == "exit":
        os._exit(fields["code"])
    if what == "sys.exit":
        sys.exit(fields["code"])
    if what == "terminate":
        os.kill(os.getpid(), signal.SIGTERM)
    if what == "interrupt":
        raise KeyboardInterrupt
    if what == "crash":
        crash()
    if what == "hang":
        ignore_everything()
    if what == "sleep":
        time.sleep(fields["seconds"])
    if what == "big":
        return False, "x" * fields["size"]
    if what == "chatty":
        print("a word")
        return False, "x" * fields["size"]
    if what == "unserializable":
        return False, (letter for letter in what)
    if what == "nan":
        return False, float("nan")
    if what == "plain":
        return {"plain": [1, 2, 3]}
    if what == "span":
        started = time.monotonic()
        time.sleep(fields.get("seconds", 0.0))
        note("spans", f"{data.slot} {started} {time.monotonic()} {fields['place']}")
    if what == "broken pipe":
        reading, writing = os.pipe()
        os.close(reading)
        os.write(writing, b"nobody reads this")
    if what == "signals":
        blocked = sorted(int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE)
        return False, [blocked, [str(signal.getsignal(number)) for number in numbers], signal.set_wakeup_fd(-1)]
    if what == "helper":
        os.kill(int((FOLDER / "helper").read_text()), 0)
    if what == "close":
        os.closerange(3, 4096)
    if what == "replace":
        os.closerange(3, 4096)
        descriptors = [os.open(FOLDER / "own-file", os.O_RDWR | os.O_CREAT) for _ in range(64)]
        return False, len(descriptors)
    if what == "kill parent" and not (FOLDER / "killed-parent").exists():
        note("killed-parent", os.getppid())
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(1000)
    if what == "child":
        return False, sleeper()
    if what == "escaped child":
        escaped_sleeper()
    if what == "bomb":
        note("pids", os.getpid())
        bomb()
    if what == "scratch":
        path = Path(data.scratch_dir)
        (path / "file").write_text("here")
        return False, str(path)
    if what == "retry until":
        return retry_until("attempts", fields["attempts"], data)
    if what == "raise Retry" and data.attempt < 2:
        raise cloud_tasks.Retry("not yet", after=0.05)
    if what == "raise until":
        note("attempts", data.attempt)
        if data.attempt < fields["attempts"]:
            raise OSError("busy")
    if what == "eat":
        held = []
        while True:
            held.append(b"x" * 10_000_000)
            time.sleep(0.01)
    if what == "spin":
        note("waiting", os.getpid())
        while not getattr(data, fields["flag"]):
            pass
        return False, {"notice": data.received_termination_notice}
    if what == "wait for shutdown":
        note("waiting", os.getpid())
        while not data.received_shutdown_request:
            time.sleep(0.01)
        return False, {"notice": data.received_termination_notice}
    if what == "wait":
        note("waiting", os.getpid())
        time.sleep(1000)
    if what == "threads":
        return False, sorted(thread.name for thread in threading.enumerate())
    if what == "inherit":
        code = "import os; print([name for name in os.environ if 'SPAWNED' in name], os.listdir('/proc/self/fd'))"
        return False, subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    if what == "print":
        print("these are", "my last words")
        raise RuntimeError("after them")
    if what == "close output":
        os.closerange(1, 3)
        raise ValueError("closed")
    if what == "replace output":
        sys.stdout = sys.stderr = open("/dev/full", "w")  # noqa: SIM115
        raise ValueError("replaced")
    if what == "no output":
        sys.stdout = sys.stderr = None  # type: ignore[assignment]
        raise ValueError("no output")
    if what == "full output":
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
        print("a line", flush=True)
    if what == "say":
        print(fields.get("text", "a line"), flush=True)
    if what == "write":
        Path(fields["path"]).write_text("x" * 4096)
    if what == "about":
        loop_is_free = True
        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop()
            loop_is_free = False
        return False, {
            "attempt": data.attempt,
            "slot": data.slot,
            "own": getattr(data, "own", None),
            "extra": getattr(data.args, "extra", None),
            "modules": sorted(sys.modules),
            "initialised": (FOLDER / "initialised").exists(),
            "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"),
            "loop_is_free": loop_is_free,
            "asyncio": asyncio.run(asyncio.sleep(0, "works")),
        }
    return False, what


def process_task(task_id: str, task_data: dict[str, Any], worker_data: WorkerData) -> Any:
    return do(task_data.get("do", "nothing"), task_data, worker_data)


def initialise(data: WorkerData) -> None:
    note("initialised", os.getpid())
    if "PROGRAM_HELPER" in os.environ:
        note("helper", sleeper())
    if os.environ.get("PROGRAM_THREADS") == "init":
        start_thread()
    if os.environ.get("PROGRAM_THREADS") == "fail":
        raise RuntimeError("not today")


def start_thread() -> None:
    threading.Thread(target=time.sleep, args=(1000,), name="idler", daemon=True).start()


def make_tasks() -> Any:
    for number in range(int(os.environ.get("PROGRAM_TASKS", "5"))):
        yield {"task_id": f"made-{number}", "data": {"do": os.environ.get("PROGRAM_DO", "nothing")}}


def noticed() -> None:
    note("noticed", "yes")


async def main() -> None:
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("--extra")
    worker = Worker(
        process_task,
        task_source=make_tasks,
        args=sys.argv[1:],
        argparser=parser,
        worker_init=initialise,
        on_termination_notice=noticed,
    )
    worker.data.own = "set before start"  # type: ignore[attr-defined]  # users may
    await worker.start()
    note("returned", "normally")


if os.environ.get("PROGRAM_THREADS") == "import":
    start_thread()

if __name__ == "__main__":
    asyncio.run(main())
