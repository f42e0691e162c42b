"""Periodic work of the supervisor, on its own."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from cloud_tasks.worker.supervisor.periodic_tasks import Activity, PeriodicTasks

QUIET = {
    "keepalive_interval": 0,
    "progress_interval": 0,
    "memory_gb": None,
    "max_lifetime": None,
    "idle_limit": None,
    "slots": 4,
}


def started(activity: list[Activity], done: list[Any], **settings: Any) -> list[tuple[float, Callable[[], None]]]:
    """The calls that a pulse has scheduled; what it does goes to ``done``."""
    scheduled: list[tuple[float, Callable[[], None]]] = []
    PeriodicTasks(
        SimpleNamespace(**QUIET | settings),
        later=lambda seconds, action: scheduled.append((seconds, action)),
        observe=lambda: activity[0],
        report=lambda kind, **facts: done.append((kind, facts)),
        watch_memory=lambda limit: done.append(("memory", limit)),
        stop=lambda reason: done.append(("stop", reason)),
        log=SimpleNamespace(info=lambda text: done.append(("log", text))),
    ).start()
    return scheduled


BUSY = Activity(is_accepting=True, is_busy=True, running=3, finished=10, expected=40)


def test_pulse_schedules_only_what_the_settings_ask_for() -> None:
    assert started([BUSY], []) == []


def test_pulse_reports_heartbeats_again_and_again() -> None:
    done: list[Any] = []
    scheduled = started([BUSY], done, keepalive_interval=30)
    scheduled.pop()[1]()
    (kind, facts), (seconds, _) = done[0], scheduled[0]
    assert (kind, facts["running_tasks"], facts["finished"], facts["slots"], seconds) == ("keep_alive", 3, 10, 4, 30)


def test_pulse_logs_rate_and_remaining_time_only_while_something_happens() -> None:
    done: list[Any] = []
    activity = [BUSY]
    scheduled = started(activity, done, progress_interval=5)
    scheduled.pop()[1]()
    activity[0] = BUSY._replace(running=0)
    scheduled.pop()[1]()
    assert done == [("log", "10 tasks attempted, 3 running, 2.0 per second; 30 to go, about 15s")]


def test_pulse_stops_for_lifetime_and_idleness_and_watches_memory() -> None:
    done: list[Any] = []
    activity = [BUSY]
    lifetime, idle, memory = (
        started(activity, done, **settings) for settings in ({"max_lifetime": 60}, {"idle_limit": 0}, {"memory_gb": 2})
    )
    lifetime.pop()[1]()
    activity[0] = BUSY._replace(is_busy=False)
    idle.pop()[1]()
    memory.pop()[1]()
    assert done == [
        ("stop", "its maximum lifetime of 60 seconds is over"),
        ("stop", "there was no task for 0 seconds"),
        ("memory", 2),
    ]
    assert (lifetime, idle, [seconds for seconds, _ in memory]) == ([], [], [0.2])
