"""Messages between supervisor and fork server.

A channel carries plain tuples (`encode`): the index of the type in `_TYPES`, then the fields.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

__all__ = [
    "ATTEMPT_ENDED",
    "ATTEMPT_STARTED",
    "UNKNOWN_STATUS",
    "AttemptEnded",
    "AttemptStarted",
    "Failed",
    "KillAttempt",
    "KillProcess",
    "Message",
    "Ping",
    "ProcessEnded",
    "ProcessStarted",
    "Quit",
    "Ready",
    "RunAttempt",
    "StartFailed",
    "StartProcess",
    "Withdraw",
    "Withdrawn",
    "decode",
    "encode",
]

UNKNOWN_STATUS = -1
"""Wait status of a process that other code of the program has waited for."""


if TYPE_CHECKING:
    from typing import NamedTuple
else:

    class NamedTuple(tuple):
        """Base class of messages, as that of `typing`, whose subclasses take long to create at each start."""

        def __new__(cls, *fields: Any) -> Any:
            return tuple.__new__(cls, fields)

        def __init_subclass__(cls) -> None:
            for index, name in enumerate(cls.__annotations__):
                setattr(cls, name, property(itemgetter(index)))


class RunAttempt(NamedTuple):
    """Request to run an attempt in a process of its own as soon as a slot is free."""

    number: int
    task_id: str
    attempt: int
    payload: dict[str, Any] | bytes
    """Data of the task, or JSON with the member ``data``."""
    scratch: str


class KillAttempt(NamedTuple):
    """Request to signal an attempt's process group."""

    number: int
    signal: int


class Withdraw(NamedTuple):
    """Request to return waiting attempts; the answer is `Withdrawn`."""


class StartProcess(NamedTuple):
    """Request to start a process that runs several attempts; the answer is `ProcessStarted`."""

    slot: int


class KillProcess(NamedTuple):
    """Request to signal the group of such a process."""

    pid: int
    signal: int


class Quit(NamedTuple):
    """Request to exit once no task process is left."""


class Ping(NamedTuple):
    """Request for an answer, which is the same message."""


class Ready(NamedTuple):
    """First message of a fork server: ``worker_init`` has returned or raised."""

    problem: str
    """Traceback of ``worker_init``; empty if it returned."""


class Failed(NamedTuple):
    """Last message of a fork server that ends because of an error."""

    reason: str


class StartFailed(NamedTuple):
    """Report that a process could not be started; its attempts have not run and are no longer here."""

    number: int
    """Number of the attempt; -1 for a process that runs several."""
    slot: int
    """Slot of such a process."""
    reason: str


class AttemptStarted(NamedTuple):
    """Report that an attempt runs in a slot."""

    number: int
    slot: int
    pid: int
    when: float
    """`time.monotonic`."""


class AttemptEnded(NamedTuple):
    """Report that an attempt's process has exited."""

    number: int
    status: int
    """Wait status, as `os.wait` returns it."""
    when: float
    """`time.monotonic`."""
    content: bytes | None
    """Report of the task; None for a long one, whose descriptor comes with the message."""
    tail: bytes
    """End of its output."""


class Withdrawn(NamedTuple):
    """Report that waiting attempts were given up."""

    numbers: list[int]


class ProcessStarted(NamedTuple):
    """Report of a process that runs several attempts; its socket comes with the message."""

    slot: int
    pid: int


class ProcessEnded(NamedTuple):
    """Report that such a process has exited."""

    slot: int
    status: int
    tail: bytes


Message = (
    RunAttempt
    | KillAttempt
    | Withdraw
    | StartProcess
    | KillProcess
    | Quit
    | Ready
    | AttemptStarted
    | AttemptEnded
    | Withdrawn
    | ProcessStarted
    | ProcessEnded
    | Failed
    | StartFailed
    | Ping
)

_TYPES: tuple[Any, ...] = (
    RunAttempt,
    KillAttempt,
    Withdraw,
    StartProcess,
    KillProcess,
    Quit,
    Ready,
    AttemptStarted,
    AttemptEnded,
    Withdrawn,
    ProcessStarted,
    ProcessEnded,
    Failed,
    StartFailed,
    Ping,
)
_INDEX = {kind: index for index, kind in enumerate(_TYPES)}
ATTEMPT_STARTED, ATTEMPT_ENDED = _INDEX[AttemptStarted], _INDEX[AttemptEnded]
"""Indices of the messages that the fork server sends for each task, as plain tuples: constructors are functions."""
_create: Any = tuple.__new__


def encode(message: Message) -> tuple[Any, ...]:
    """Return the plain tuple that a channel carries."""
    return (_INDEX[type(message)], *message)


def decode(fields: tuple[Any, ...]) -> Any:
    """Return the message that a plain tuple encodes."""
    return _create(_TYPES[fields[0]], fields[1:])
