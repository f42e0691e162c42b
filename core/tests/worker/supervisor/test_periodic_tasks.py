"""Periodic tasks of the supervisor."""

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
    "drain_after": None,
    "age": 0.0,
    "idle_limit": None,
    "slots": 4,
    "folders": (),
}


def started(activity: list[Activity], done: list[Any], **settings: Any) -> list[tuple[float, Callable[[], None]]]:
    """Start the periodic tasks; return the calls that they schedule. Their actions are appended to ``done``."""
    scheduled: list[tuple[float, Callable[[], None]]] = []
    PeriodicTasks(
        SimpleNamespace(**QUIET | settings),
        later=lambda seconds, action: scheduled.append((seconds, action)),
        observe=lambda: activity[0],
        report=lambda kind, **fields: done.append((kind, fields)),
        watch_memory=lambda limit: done.append(("memory", limit)),
        stop=lambda reason: done.append(("stop", reason)),
        drain=lambda reason: done.append(("drain", reason)),
        log=SimpleNamespace(info=lambda text: done.append(("log", text))),
    ).start()
    return scheduled


BUSY = Activity(is_accepting=True, is_busy=True, running=3, finished=10, expected=40)


def test_periodic_tasks_are_scheduled_only_if_the_settings_enable_them() -> None:
    assert started([BUSY], []) == []


def test_periodic_tasks_report_heartbeats_repeatedly() -> None:
    done: list[Any] = []
    scheduled = started([BUSY], done, keepalive_interval=30)
    scheduled.pop()[1]()
    (kind, fields), (seconds, _) = done[0], scheduled[0]
    assert (kind, fields["running_tasks"], fields["finished"], fields["slots"], seconds) == ("keep_alive", 3, 10, 4, 30)


def test_periodic_tasks_log_rate_and_remaining_time_only_while_tasks_run() -> None:
    done: list[Any] = []
    activity = [BUSY]
    scheduled = started(activity, done, progress_interval=5)
    scheduled.pop()[1]()
    activity[0] = BUSY._replace(running=0)
    scheduled.pop()[1]()
    assert done == [("log", "10 tasks finished, 3 running, 2.0 tasks/s; 30 tasks left, about 15s")]


def test_periodic_tasks_stop_after_lifetime_and_idle_limit_and_watch_memory() -> None:
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
        ("stop", "maximum lifetime of 1m exceeded (max_lifetime)"),
        ("stop", "no task for 0s (idle_limit)"),
        ("memory", 2),
    ]
    assert (lifetime, idle, [seconds for seconds, _ in memory]) == ([], [], [0.2])


def test_periodic_tasks_drain_and_stop_at_the_age_of_the_instance() -> None:
    done: list[Any] = []
    scheduled = started([BUSY], done, max_lifetime=7200, drain_after=3600, age=600.0)
    for _, action in scheduled:
        action()
    assert [seconds for seconds, _ in scheduled] == [6600, 3000]
    assert [kind for kind, _ in done] == ["stop", "drain"]
    assert [seconds for seconds, _ in started([BUSY], [], max_lifetime=60, drain_after=30, age=90.0)] == [0.0, 0.0]
