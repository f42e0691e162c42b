"""Progress of a run, as event sinks are given it."""

from __future__ import annotations

from datetime import datetime

import store_facts
from store_facts import at, completed, failed

from cloud_tasks.controller.messaging.progress import Progress
from cloud_tasks.model import JobPhase, JobProgress, Money, TaskStatus
from cloud_tasks.store import Store


def finish(store: Store, count: int) -> None:
    """Finish tasks; the first one fails."""
    store.apply_events([failed("task-0"), *(completed(f"task-{number}") for number in range(1, count))])


def given(store: Store, now: datetime, phase: JobPhase = JobPhase.RUNNING) -> JobProgress:
    return Progress.read(store, now).for_sinks(phase=phase, max_total_cost=Money(7))


def launch(store: Store) -> None:
    store.record_intents([store_facts.launch_request("t1", price="0.36")], at(0), slots=4)
    store.record_launched("t1", store_facts.instance("i1", "t1", created=0))


def test_progress_counts_tasks_and_instances_and_names_the_run(store: Store) -> None:
    store.begin_run(at(0))
    finish(store, 5)
    launch(store)
    progress = given(store, at(3600))
    assert (progress.job_id, progress.run_id, progress.phase) == ("job", "run", JobPhase.RUNNING)
    assert progress.started_at == at(0)
    assert (progress.total, progress.finished, progress.failed) == (20, 5, 1)
    assert progress.counts[TaskStatus.COMPLETED] == 4
    assert (sum(progress.instances.values()), progress.price_per_hour) == (1, Money("0.36"))
    assert (progress.cost, progress.max_total_cost) == (Money("0.36"), Money(7))


def test_expected_cost_follows_from_the_pace_of_this_run(store: Store) -> None:
    # 10 tasks in an hour, 10 to go: another hour.
    store.begin_run(at(0))
    finish(store, 10)
    launch(store)
    assert given(store, at(3600)).expected_cost == Money("0.72")


def test_expected_cost_is_unknown_before_a_task_of_this_run_has_ended(store: Store) -> None:
    finish(store, 5)
    launch(store)
    store.begin_run(at(10))
    assert given(store, at(3600)).expected_cost is None


def test_expected_cost_of_a_complete_job_is_its_cost(store: Store) -> None:
    finish(store, 20)
    store.begin_run(at(10))
    progress = given(store, at(3600), JobPhase.COMPLETE)
    assert progress.expected_cost == progress.cost == Money.zero()


def test_price_per_hour_has_a_launch_without_an_answer_only_when_the_answer_is_overdue(store: Store) -> None:
    store.record_intents([store_facts.launch_request("t1", price="0.36")], at(0), slots=4)
    assert given(store, at(5)).price_per_hour == Money(0)
    assert given(store, at(3600)).price_per_hour == Money("0.36")
