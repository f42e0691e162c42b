"""Task processes that are new interpreters (``--start-method spawn``), for programs that cannot be forked safely.

The fork server forks and at once executes the program's own command line again. The program reaches its `Worker`, which
becomes the task process instead of a worker: same function, same arguments, nothing is pickled. The assignment is in an
unnamed file, whose descriptor is in an environment variable.

Invariants, each with a test:

1. A spawned task has every guarantee of a forked one: own session, time limit, result of any size, and the end of its
   whole process tree.
2. Processes that a spawned task starts do not inherit the variable.
"""

from __future__ import annotations

import marshal
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from cloud_tasks.worker.common.private_api import forget_event_loop, open_socket
from cloud_tasks.worker.common.shared_flags import SharedFlags
from cloud_tasks.worker.task_process.assignment import Assignment, ResultLimits
from cloud_tasks.worker.task_process.exception_report import note_outputs
from cloud_tasks.worker.task_process.function_call import Function
from cloud_tasks.worker.task_process.process_setup import restore_signals, set_up
from cloud_tasks.worker.task_process.result_file import REACHED, open_result_file, report_own_failure
from cloud_tasks.worker.task_process.runner import run_one

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloud_tasks.worker.common.worker_data import WorkerData

__all__ = [
    "SPAWN_ADVICE",
    "TASK_MARK",
    "Program",
    "become_task",
    "execute",
    "is_main_thread",
    "is_spawned",
    "other_threads",
]

SPAWN_ADVICE = (
    "each task gets a fresh interpreter, which takes longer; start threads in the task's function, "
    "or add --start-method fork if forking is safe"
)

TASK_MARK = "CLOUD_TASKS_TASK_PROCESS"
"""Environment variable of tasks and of all processes that they start."""
_VARIABLE = "CLOUD_TASKS_SPAWNED"
_ONE, _MANY = 1, 2
_SPAWNED = os.environ.pop(_VARIABLE, "")
try:
    _START_FOLDER = os.getcwd()
except FileNotFoundError:
    _START_FOLDER = os.sep
_workers = 0
"""Number of workers that this program has started, including the present one."""


class Program:
    """Command line of this program, and the number of the worker in it."""

    __slots__ = ("command", "flags", "folder", "worker")

    def __init__(self, flags: SharedFlags) -> None:
        self.command = [sys.executable, *sys.orig_argv[1:]]
        self.folder = _START_FOLDER
        self.worker = _workers
        self.flags = flags

    @property
    def problem(self) -> str:
        """Reason for which this program cannot be executed again; empty for none."""
        path = getattr(sys.modules.get("__main__"), "__file__", None)
        if path is None or path == "<stdin>":
            return "" if "-c" in self.command else "the program was read from standard input or typed in"
        # A pipe or a terminal. A file inside an archive has a path that does not exist.
        is_stream = path.startswith(("/dev/", "/proc/")) or (os.path.exists(path) and not os.path.isfile(path))
        return f"the program was read from {path}" if is_stream else ""


def execute(
    program: Program,
    *,
    parent: int,
    output: int | None,
    environment: dict[str, str],
    limits: ResultLimits,
    one: tuple[Assignment, int] | None = None,
    many: tuple[int, int] | None = None,
) -> NoReturn:
    """Execute the program again, in a process that was forked for this. Never returns.

    Args:
        parent: Pid of the fork server.
        output: Descriptor for standard output and error; None for those of the worker.
        one: An assignment and the descriptor of its result file.
        many: The descriptor of a socket for assignments, and their number.
    """
    try:
        set_up(parent, output)
        if one is not None:
            order: tuple[Any, ...] = (_ONE, one[1], limits, one[0].fields())
            inherited = one[1]
        else:
            assert many is not None
            order, inherited = (_MANY, many[0], limits, many[1]), many[0]
        file = open_result_file()
        os.pwrite(file, marshal.dumps(order), 0)
        for descriptor in (file, inherited, *program.flags.descriptors):
            os.set_inheritable(descriptor, True)
        os.chdir(program.folder)
        numbers = (program.worker, parent, file, *program.flags.descriptors)
        variables = {_VARIABLE: ":".join(map(str, numbers))}
        os.execve(program.command[0], program.command, {**os.environ, **environment, **variables})
    except BaseException as error:
        what = "cannot execute the program again"
        if one is not None:
            report_own_failure(one[1], what, error)
        elif many is not None:
            from cloud_tasks.worker.common.ipc import Channel
            from cloud_tasks.worker.task_process.reusable_process import reject_assignment

            reject_assignment(Channel(open_socket(many[0]), blocking=True), what, error)
    finally:
        os._exit(70)


def is_spawned() -> bool | None:
    """Return whether this worker is to become a task process; None if a later one of the program's workers is."""
    global _workers
    _workers += 1
    if not _SPAWNED:
        return False
    number = int(_SPAWNED.partition(":")[0])
    return True if number == _workers else None


def become_task(function: Function, data: WorkerData, on_init: Callable[[WorkerData], Any] | None) -> NoReturn:
    """Run the assignment of the fork server and exit. Never returns."""
    global _SPAWNED
    _, parent, file, notices, errors = (int(part) for part in _SPAWNED.split(":"))
    # A worker that the task starts does not become a task process.
    _SPAWNED = ""
    content = os.pread(file, os.fstat(file).st_size, 0)
    os.close(file)
    kind, descriptor, limits, rest = marshal.loads(content)
    for inherited in (descriptor, notices, errors):
        os.set_inheritable(inherited, False)
    data._flags = SharedFlags((notices, errors))
    if os.getppid() != parent:
        os._exit(70)
    restore_signals()
    note_outputs()
    forget_event_loop()
    assignment = Assignment(*rest) if kind == _ONE else None
    if assignment is not None:
        os.pwrite(descriptor, REACHED, 0)
    function = _with_init(function, on_init)
    if assignment is not None:
        run_one(function, data, assignment, result=descriptor, limits=limits, is_spawned=True)
    from cloud_tasks.worker.common.ipc import Channel
    from cloud_tasks.worker.task_process.reusable_process import run_many

    end = Channel(open_socket(descriptor), blocking=True)
    run_many(function, data, end=end, limits=limits, count=rest, is_spawned=True)


def _with_init(function: Function, on_init: Callable[[WorkerData], Any] | None) -> Function:
    """Return the function with ``worker_init`` before its first call; an exception of that is the task's."""
    if on_init is None:
        return function
    initialised = False

    def run(task_id: str, task_data: dict[str, Any], data: WorkerData) -> Any:
        nonlocal initialised
        if not initialised:
            on_init(data)
            initialised = True
        return function(task_id, task_data, data)

    return run


def is_main_thread() -> bool:
    """Return whether this is the program's main thread."""
    try:
        signal.set_wakeup_fd(signal.set_wakeup_fd(-1))
    except ValueError:
        return False
    return True


def other_threads() -> str:
    """Return the names of this process's other Python threads; threads of native libraries are not listed."""
    threading = sys.modules.get("threading")
    if threading is None:
        return ""
    return ", ".join(thread.name for thread in threading.enumerate() if thread is not threading.current_thread())
