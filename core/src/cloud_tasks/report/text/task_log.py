"""History of a task: its attempts with results and output, and its events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs

from cloud_tasks.convert import event_to_json
from cloud_tasks.escape import terminal_line, terminal_text
from cloud_tasks.model import Event, Task, TaskStatus
from cloud_tasks.quantities import describe_result, indented, without_traceback
from cloud_tasks.sanitize import shown_value
from cloud_tasks.store import TaskAttempt

__all__ = ["render_task_log", "task_log_dict"]

_SHOWN_ELSEWHERE = frozenset(
    {"stack_trace", "log_tail", "exception", "exception_type", "result", "log_address", "result_address"}
    | {"result_pickle", "result_repr", "warning", "command"}
)


def render_task_log(task: Task, status: TaskStatus, attempts: Sequence[TaskAttempt], events: Sequence[Event]) -> str:
    """Return the history as text."""
    lines = [f"Task {terminal_line(task.task_id)}: {status.value}", f"Data: {_shown(dict(task.data))}"]
    if not attempts:
        lines.append("No attempts yet")
    for attempt in attempts:
        lines += ["", *_attempt(attempt)]
    if events:
        lines += ["", "Events"]
        lines += indented(_event(event) for event in events)
    return "\n".join(lines)


def _attempt(found: TaskAttempt) -> Iterator[str]:
    record, details = found.record, found.details
    outcome = TaskStatus.RUNNING.value if record.outcome is None else record.outcome.value
    took = "" if record.elapsed_time is None else f" after {record.elapsed_time:.2f} s"
    yield f"Attempt {record.attempt}: {outcome}{took}"
    where = record.hostname or "unknown host"
    where += f" (instance {record.instance_id})" if record.instance_id else ""
    end = _moment(record.ended_at) if record.ended_at else "now"
    yield f"  {_moment(record.started_at)} to {end} on {terminal_line(where)}"
    if "command" in details:
        yield "  Command:"
        yield from indented(terminal_text(str(details["command"])).splitlines(), 4)
    if record.reason:
        yield f"  Reason: {terminal_line(_whole_reason(record.reason, details))}"
    if "result" in details:
        yield f"  Result: {_shown(describe_result(details) or details['result'])}"
    for title, name in (("Warning", "warning"), ("Log", "log_address")):
        if details.get(name):
            yield f"  {title}: {_shown(details[name])}"
    trace, output = (str(details.get(name) or "").strip() for name in ("stack_trace", "log_tail"))
    for title, text in (("Traceback", trace), ("Output", without_traceback(output, trace))):
        if text:
            yield f"  {title}:"
            yield from indented(terminal_text(text).splitlines(), 4)


def _whole_reason(reason: str, details: Mapping[str, Any]) -> str:
    """Return the reason, or all lines of the message that it is the start of, if no traceback shows those."""
    message = f"{details.get('exception_type')}: {details.get('exception')}"
    return "; ".join(message.splitlines()) if message.startswith(reason) and not details.get("stack_trace") else reason


def _event(event: Event) -> str:
    facts = {name: value for name, value in event.details.items() if name not in _SHOWN_ELSEWHERE}
    if event.retry is not None:
        facts["retry"] = event.retry
    shown = " ".join(f"{terminal_line(name)}={_shown(value)}" for name, value in facts.items())
    attempt = "" if event.attempt is None else f" attempt {event.attempt}"
    host = terminal_line(event.hostname) or "unknown host"
    return f"{_moment(event.timestamp)} {event.event_type.value}{attempt} on {host}" + (f" [{shown}]" if shown else "")


def _shown(value: Any) -> str:
    """Return a value on one line: strings as they are, everything else as JSON."""
    plain = shown_value(value)
    return terminal_line(plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False))


def _moment(when: datetime | None) -> str:
    return (
        "unknown time" if when is None else f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S}.{when.microsecond // 1000:03d}"
    )


def task_log_dict(
    task: Task, status: TaskStatus, attempts: Sequence[TaskAttempt], events: Sequence[Event]
) -> dict[str, Any]:
    """Return the history for `json.dumps`."""
    return {
        "task_id": task.task_id,
        "status": status.value,
        "data": shown_value(dict(task.data)),
        "attempts": [_attempt_dict(attempt) for attempt in attempts],
        "events": [shown_value(event_to_json(event)) for event in events],
    }


def _attempt_dict(found: TaskAttempt) -> dict[str, Any]:
    values = attrs.asdict(found.record, recurse=False)
    for name in ("started_at", "ended_at"):
        values[name] = None if values[name] is None else values[name].isoformat()
    values["outcome"] = None if found.record.outcome is None else found.record.outcome.value
    return {**values, "details": shown_value(dict(found.details))}
