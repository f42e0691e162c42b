"""End of a task's process: threads, pools, exit functions and files, in each mode of making processes."""

from __future__ import annotations

import gzip
import shelve
import subprocess
import sys
import zipfile
from typing import Any

import pytest
from worker_harness import MODES, SMALL_PROGRAM, Harness, modes, run_program

ENDS = ("task_completed", "task_exception", "task_exited", "task_timed_out", "task_released")


def ends(worker: Harness) -> list[tuple[str, Any]]:
    return [(event["event_type"], event.get("result")) for event in worker.events(*ENDS)]


JOBLIB = """
import joblib
def square(number): return number * number
def f(task_id, data, worker_data):
    return joblib.Parallel(n_jobs=2, backend="{backend}")(joblib.delayed(square)(n) for n in range(3))
"""
THREAD_POOL = """
from concurrent.futures import ThreadPoolExecutor
POOL = None
def f(task_id, data, worker_data):
    global POOL
    POOL = POOL or ThreadPoolExecutor(2)
    return POOL.submit(pow, 2, 3).result()
"""
LATE_THREAD_POOL = """
POOL = None
def f(task_id, data, worker_data):
    from concurrent.futures import ThreadPoolExecutor
    global POOL
    POOL = POOL or ThreadPoolExecutor(2)
    return POOL.submit(pow, 2, 3).result()
"""
PROCESS_POOL = """
from concurrent.futures import ProcessPoolExecutor
POOL = None
def f(task_id, data, worker_data):
    global POOL
    POOL = POOL or ProcessPoolExecutor(2)
    return POOL.submit(pow, 2, 3).result()
"""
MULTIPROCESSING_POOL = """
import multiprocessing
POOL = None
def f(task_id, data, worker_data):
    global POOL
    POOL = POOL or multiprocessing.get_context("fork").Pool(2)
    return POOL.apply(pow, (2, 3))
"""
ASYNCIO_THREADS = """
import asyncio
LOOP = None
def f(task_id, data, worker_data):
    global LOOP
    LOOP = LOOP or asyncio.new_event_loop()
    return LOOP.run_until_complete(LOOP.run_in_executor(None, pow, 2, 3))
"""
QUEUE_LISTENER = """
import logging, logging.handlers, queue
def f(task_id, data, worker_data):
    lines = queue.Queue()
    target = logging.FileHandler("log.txt")
    listener = logging.handlers.QueueListener(lines, target)
    listener.start()
    atexit.register(listener.stop)
    logging.getLogger().addHandler(logging.handlers.QueueHandler(lines))
    logging.getLogger().warning("from the task")
    return 8
"""
THREADS = {
    "joblib loky": (JOBLIB.format(backend="loky"), [0, 1, 4]),
    "joblib threads": (JOBLIB.format(backend="threading"), [0, 1, 4]),
    "thread pool": (THREAD_POOL, 8),
    "thread pool, late import": (LATE_THREAD_POOL, 8),
    "process pool": (PROCESS_POOL, 8),
    "multiprocessing pool": (MULTIPROCESSING_POOL, 8),
    "asyncio": (ASYNCIO_THREADS, 8),
    "queue listener": (QUEUE_LISTENER, 8),
}


@modes
@pytest.mark.parametrize("name", THREADS)
def test_process_end_stops_the_threads_of_libraries(worker, name, mode) -> None:
    code, result = THREADS[name]
    finished = run_program(worker, code, *mode, "--max-runtime", "20", tasks=2)
    assert ends(worker) == [("task_completed", result)] * 2, finished.log
    assert finished.code == 0
    assert worker.nothing_is_left()
    if name == "queue listener":
        assert set((worker.folder / "log.txt").read_text().split("\n")) == {"from the task", ""}


@modes
def test_process_end_waits_for_plain_threads(worker, mode) -> None:
    code = """
def later(): time.sleep(0.5); Path("thread.txt").write_text("written")
def f(task_id, data, worker_data):
    threading.Thread(target=later).start()
    return 1
"""
    run_program(worker, code, *mode)
    assert ends(worker) == [("task_completed", 1)]
    assert (worker.folder / "thread.txt").read_text() == "written"


@modes
@pytest.mark.parametrize(
    "after",
    [
        "time.sleep(1000)",
        "time.sleep(0.1); os._exit(5)",
        "time.sleep(0.1); os.kill(os.getpid(), 9)",
        "raise SystemExit(4)",
    ],
)
def test_process_end_reports_a_returned_result_whatever_threads_do(worker, mode, after) -> None:
    code = f"""
def later(): {after}
def f(task_id, data, worker_data):
    threading.Thread(target=later).start()
    return 1
"""
    finished = run_program(worker, code, *mode, "--max-runtime", "2")
    assert ends(worker) == [("task_completed", 1)], finished.log
    assert finished.code == 0
    assert worker.nothing_is_left()


@modes
def test_process_end_runs_what_the_task_has_registered(worker, mode) -> None:
    code = """
import atexit, contextlib, csv, gzip, io, logging, logging.handlers, multiprocessing.util, shelve, weakref, zipfile
KEPT = []
class Owner: pass
def write(name): Path(name).write_text("written")
def fail(): raise ValueError("no good")
def f(task_id, data, worker_data):
    atexit.register(write, "exit function")
    atexit.register(fail)
    owner = Owner()
    weakref.finalize(owner, write, "finalizer")
    multiprocessing.util.Finalize(owner, write, ("multiprocessing",), exitpriority=1)
    text = open("text", "w"); text.write("written")
    raw = open("buffer", "wb"); raw.write(b"written")
    table = open("table", "w"); csv.writer(table).writerow(["written"])
    packed = gzip.open("packed.gz", "wt"); packed.write("written")
    wrapped = io.TextIOWrapper(gzip.GzipFile("wrapped.gz", "wb")); wrapped.write("written")
    archive = zipfile.ZipFile("archive.zip", "w"); archive.writestr("name", "written")
    shelf = shelve.open("shelf"); shelf["name"] = "written"
    handler = logging.handlers.MemoryHandler(100, target=logging.FileHandler("log"))
    logging.getLogger().addHandler(handler); logging.getLogger().warning("written")
    KEPT.extend([owner, text, raw, table, packed, wrapped, archive, shelf])
    return 1
"""
    finished = run_program(worker, code, *mode)
    assert ends(worker) == [("task_completed", 1)], finished.log
    names = ("exit function", "finalizer", "multiprocessing", "text", "buffer", "table", "log")
    contents = {name: (worker.folder / name).read_text().strip() for name in names}
    assert contents == dict.fromkeys(names, "written")
    for name in ("packed.gz", "wrapped.gz"):
        assert gzip.decompress((worker.folder / name).read_bytes()) == b"written"
    assert zipfile.ZipFile(worker.folder / "archive.zip").read("name") == b"written"
    with shelve.open(str(worker.folder / "shelf")) as shelf:
        assert shelf["name"] == "written"
    assert "ValueError: no good" in finished.log


@modes
@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("sys.exit(4)", ("task_exited", 4)),
        ("sys.exit(0)", ("task_exited", 0)),
        ("raise ValueError", ("task_exception", None)),
    ],
)
def test_process_end_runs_exit_functions_however_the_function_ends(worker, mode, end, expected) -> None:
    code = f"""
OUT = None
def f(task_id, data, worker_data):
    global OUT
    OUT = open("file", "w"); OUT.write("written")
    atexit.register(Path("exit").write_text, "written")
    {end}
"""
    run_program(worker, code, *mode)
    (event,) = worker.events(*ENDS)
    assert (event["event_type"], event.get("exit_code")) == expected
    assert [(worker.folder / name).read_text() for name in ("file", "exit")] == ["written"] * 2


@modes
@pytest.mark.parametrize("function", ["sys.exit, 3", "os._exit, 3", "os.kill, os.getpid(), 11", "time.sleep, 1000"])
def test_process_end_keeps_the_outcome_whatever_exit_functions_do(worker, mode, function) -> None:
    code = f"""
import cloud_tasks.worker.task_process.process_end as process_end
process_end.EXIT_TIMEOUT = 1.0
def f(task_id, data, worker_data):
    atexit.register({function})
    return 1
"""
    finished = run_program(worker, code, *mode)
    assert ends(worker) == [("task_completed", 1)], finished.log
    assert finished.code == 0
    assert worker.nothing_is_left()


@modes
def test_process_end_keeps_the_exit_code_of_a_task_whose_exit_functions_hang(worker, mode) -> None:
    code = """
import cloud_tasks.worker.task_process.process_end as process_end
process_end.EXIT_TIMEOUT = 1.0
def f(task_id, data, worker_data):
    atexit.register(time.sleep, 1000)
    sys.exit(7)
"""
    run_program(worker, code, *mode)
    (event,) = worker.events(*ENDS)
    assert (event["event_type"], event["exit_code"]) == ("task_exited", 7)


INHERITED = """
import atexit, logging, logging.handlers, tempfile, weakref
atexit.register(lambda: open("ends", "a").write("exit function\\n"))
class Owner: pass
OWNER = Owner()
weakref.finalize(OWNER, lambda: open("ends", "a").write("finalizer\\n"))
TEMPORARY = tempfile.NamedTemporaryFile()
FOLDER = tempfile.TemporaryDirectory()
OUT = open("out", "w"); OUT.write("program\\n")
LOG = logging.handlers.MemoryHandler(100, target=logging.FileHandler("log"))
logging.getLogger().addHandler(LOG); logging.getLogger().warning("program")
def f(task_id, data, worker_data):
    OUT.write("task\\n")
    logging.getLogger().warning("task")
    assert os.path.exists(TEMPORARY.name) and os.path.exists(FOLDER.name)
    if data.get("own"):
        atexit.register(print)
"""


@pytest.mark.parametrize("mode", [MODES["fork"], MODES["reuse"]], ids=["fork", "reuse"])
@pytest.mark.parametrize("data", [{}, {"own": True}], ids=["nothing own", "own exit function"])
def test_process_end_leaves_what_the_program_has_made_to_the_program(worker, mode, data) -> None:
    finished = run_program(worker, INHERITED, *mode, tasks=3, data=data)
    assert ends(worker) == [("task_completed", None)] * 3, finished.log
    assert (worker.folder / "ends").read_text().split("\n") == ["finalizer", "exit function", ""]
    for name in ("out", "log"):
        assert (worker.folder / name).read_text().split("\n") == ["program", "task", "task", "task", ""]
    assert "Traceback" not in finished.log


def test_process_end_closes_files_that_an_object_of_the_program_holds(worker) -> None:
    code = """
class Writers: pass
WRITERS = Writers()
def f(task_id, data, worker_data):
    WRITERS.inner = {"file": open("low"), "out": open("out", "w")}
    WRITERS.inner["out"].write("written")
    WRITERS.inner.pop("file").close()
"""
    (worker.folder / "low").touch()
    run_program(worker, code)
    assert (worker.folder / "out").read_text() == "written"


@modes
def test_standard_input_of_tasks_is_empty(worker, mode) -> None:
    code = """
FIRST = sys.stdin.readline()
def f(task_id, data, worker_data):
    try:
        line = input()
    except EOFError:
        line = None
    return [line, sys.stdin.read(), os.read(0, 100).decode()]
"""
    lines = "first\n" + "second\n" * 3
    finished = run_program(worker, code, *mode, "--max-runtime", "10", tasks=2, input=lines)
    assert ends(worker) == [("task_completed", [None, "", ""])] * 2, finished.log


def test_worker_leaves_its_standard_input_to_others(worker) -> None:
    script = "while read line; do echo $line; {python} program.py --task-file {tasks} 2> /dev/null; done"
    code = "def f(task_id, data, worker_data): return sys.stdin.read()"
    (worker.folder / "program.py").write_text(SMALL_PROGRAM.format(code=code))
    tasks = worker.task_file({}, {})
    printed = subprocess.run(
        ["bash", "-c", script.format(python=sys.executable, tasks=tasks)],
        cwd=worker.folder,
        env=worker.environment,
        input="one\ntwo\nthree\n",
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed == "one\ntwo\nthree\n"
    assert ends(worker) == [("task_completed", "")] * 6


@modes
def test_working_folder_of_a_task_is_that_of_the_program(worker, mode) -> None:
    code = """
def f(task_id, data, worker_data):
    folder = os.getcwd()
    os.mkdir(task_id); os.chdir(task_id); os.rmdir(os.getcwd())
    return folder
"""
    run_program(worker, code, *mode, tasks=3)
    assert ends(worker) == [("task_completed", str(worker.folder))] * 3
