"""Task processes that are fresh interpreters (``--start-method spawn``), for programs that cannot be forked safely.

The template forks and at once executes the program's own command line again. That comes to its `Worker`, as it did
the first time; there, instead of a worker, it becomes the task process: same function, same arguments, nothing
pickled. What it is to do is in an unnamed file, which an environment variable points to.

Invariants, each with a test:

1. A spawned task has every guarantee of a forked one: own session, deadline, result of any size, death with its tree.
2. What the variable says concerns this process alone: what it starts does not inherit it.
"""

from __future__ import annotations

import marshal
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from cloud_tasks.worker.common.shared_flags import SharedFlags
from cloud_tasks.worker.task_process import runner

if TYPE_CHECKING:
    from collections.abc import Callable

    from cloud_tasks.worker.common.worker_data import WorkerData

__all__ = ["SPAWN_ADVICE", "Program", "become_task", "execute", "forget_event_loop", "is_spawned", "other_threads"]

SPAWN_ADVICE = (
    "each task gets a fresh interpreter, which takes longer; start threads in the task's function, "
    "or say --start-method fork if they do no harm"
)

_VARIABLE = "CLOUD_TASKS_SPAWNED"
_ONE, _MANY = 1, 2
_SPAWNED = os.environ.pop(_VARIABLE, "")
try:
    _FIRST_FOLDER = os.getcwd()
except FileNotFoundError:
    _FIRST_FOLDER = os.sep
_workers = 0
"""How many workers this program has started, the current one included."""


class Program:
    """How this program was started, and which of its workers is meant."""

    __slots__ = ("command", "flags", "folder", "worker")

    def __init__(self, flags: SharedFlags) -> None:
        self.command = [sys.executable, *sys.orig_argv[1:]]
        self.folder = _FIRST_FOLDER
        self.worker = _workers
        self.flags = flags


def execute(
    program: Program,
    *,
    parent: int,
    output: int | None,
    environment: dict[str, str],
    limits: tuple[int | None, str | None],
    one: tuple[runner.Assignment, int] | None = None,
    many: tuple[int, int] | None = None,
) -> NoReturn:
    """Become the program again, in a process that was forked for this; never returns.

    Args:
        parent: The template's pid.
        output: Where standard output and error go; None: where the worker's go.
        one: An assignment and the descriptor of its result channel.
        many: The descriptor of a socket that assignments come over, and how many will.
    """
    try:
        runner.settle(parent, output)
        if one is not None:
            what: tuple[Any, ...] = (_ONE, one[1], limits, one[0].fields())
            inherited = one[1]
        else:
            assert many is not None
            what, inherited = (_MANY, many[0], limits, many[1]), many[0]
        order = runner.open_channel()
        os.pwrite(order, marshal.dumps(what), 0)
        for descriptor in (order, inherited, program.flags.descriptor):
            os.set_inheritable(descriptor, True)
        os.chdir(program.folder)
        variables = {_VARIABLE: f"{program.worker}:{parent}:{order}:{program.flags.descriptor}"}
        os.execve(program.command[0], program.command, {**os.environ, **environment, **variables})
    except BaseException as error:
        os.write(2, f"the program could not be started again: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(70)


def is_spawned() -> bool | None:
    """Whether this worker is to become a task process; None: not this one of the program's workers, but a later one."""
    global _workers
    _workers += 1
    if not _SPAWNED:
        return False
    wanted = int(_SPAWNED.partition(":")[0])
    return True if wanted == _workers else None


def become_task(function: runner.Function, data: WorkerData, on_init: Callable[[WorkerData], Any] | None) -> NoReturn:
    """Do what the template ordered and end this process; never returns."""
    _, parent, order, flags = (int(part) for part in _SPAWNED.split(":"))
    content = os.pread(order, os.fstat(order).st_size, 0)
    os.close(order)
    kind, descriptor, limits, rest = marshal.loads(content)
    for inherited in (descriptor, flags):
        os.set_inheritable(inherited, False)
    data._flags = SharedFlags(flags)
    if os.getppid() != parent:
        os._exit(70)
    runner.restore_signals()
    forget_event_loop()
    assignment = runner.Assignment(*rest) if kind == _ONE else None
    function = _with_init(function, on_init)
    if assignment is not None:
        runner.run_one(function, data, assignment, result=descriptor, limits=limits)
    import _socket

    from cloud_tasks.worker.common.ipc import Channel

    end: Any = _socket.socket(fileno=descriptor)
    runner.run_many(function, data, end=Channel(end, blocking=True), limits=limits, count=rest)


def _with_init(function: runner.Function, on_init: Callable[[WorkerData], Any] | None) -> runner.Function:
    """The function, with ``worker_init`` before its first call: where that fails, the task does, and says so."""
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


def other_threads() -> str:
    """The names of this process's other threads, as far as Python knows them; those of libraries take care of forks."""
    threading = sys.modules.get("threading")
    if threading is None:
        return ""
    return ", ".join(thread.name for thread in threading.enumerate() if thread is not threading.current_thread())


def forget_event_loop() -> None:
    """The program may have called us from a running event loop: a function that starts one must not find it."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return
    loop = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    # In a forked process its selector is shared with the supervisor: what one did to it would be done to both.
    inner = getattr(getattr(loop, "_selector", None), "fileno", None)
    if inner is not None:
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(nothing, inner(), inheritable=False)
        os.close(nothing)
