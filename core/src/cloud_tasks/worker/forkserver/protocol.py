"""The messages between supervisor and fork server; both import them from here, and nothing of one another.

A channel carries plain tuples (`encode`): the place of the type in `_TYPES`, then the fields.
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = [
    "AttemptEnded",
    "AttemptStarted",
    "KillAttempt",
    "KillProcess",
    "Message",
    "ProcessEnded",
    "ProcessStarted",
    "Quit",
    "Ready",
    "RunAttempt",
    "StartProcess",
    "Withdraw",
    "Withdrawn",
    "decode",
    "encode",
]


class RunAttempt(NamedTuple):
    """Request to run an attempt in a process of its own, when a slot is free."""

    number: int
    task_id: str
    attempt: int
    payload: dict[str, Any] | bytes
    """The task's data, or JSON with the member ``data``."""
    scratch: str


class KillAttempt(NamedTuple):
    """Request to signal an attempt's process group."""

    number: int
    signal: int


class Withdraw(NamedTuple):
    """Request to give up waiting attempts; the answer is `Withdrawn`."""


class StartProcess(NamedTuple):
    """Request to start a process that runs several tasks; the answer is `ProcessStarted`."""

    slot: int


class KillProcess(NamedTuple):
    """Request to signal the group of such a process."""

    pid: int
    signal: int


class Quit(NamedTuple):
    """Request to exit once no process is left."""


class Ready(NamedTuple):
    """Notice, once, that ``worker_init`` has run."""

    problem: str
    """Its traceback; empty: it succeeded."""


class AttemptStarted(NamedTuple):
    """Notice that an attempt was given a slot."""

    number: int
    slot: int
    pid: int
    when: float
    """`time.monotonic`."""


class AttemptEnded(NamedTuple):
    """Notice that an attempt's process has ended."""

    number: int
    status: int
    """As `os.wait` returns it."""
    when: float
    """`time.monotonic`."""
    content: bytes | None
    """The task's report; None: it is long, and comes as a descriptor."""
    tail: bytes
    """The end of its output."""


class Withdrawn(NamedTuple):
    """Notice that these attempts will not be started."""

    numbers: list[int]


class ProcessStarted(NamedTuple):
    """Notice of a process that runs several tasks; its socket comes along as a descriptor."""

    slot: int
    pid: int


class ProcessEnded(NamedTuple):
    """Notice that such a process has ended."""

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
)
_PLACES = {kind: place for place, kind in enumerate(_TYPES)}


def encode(message: Message) -> tuple[Any, ...]:
    """Return the plain tuple that a channel carries."""
    return (_PLACES[type(message)], *message)


def decode(fields: tuple[Any, ...]) -> Any:
    """Return the message of a plain tuple."""
    return _TYPES[fields[0]]._make(fields[1:])
