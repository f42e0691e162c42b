"""How a job stands, as sinks are told."""

from __future__ import annotations

from datetime import timedelta

import store_facts
from store_facts import at, completed, failed

from cloud_tasks.controller.standing import Standing
from cloud_tasks.model import JobPhase, Money, TaskStatus
from cloud_tasks.store import Store


def finish(store: Store, count: int) -> None:
    """The first of them fails."""
    store.apply_events([failed("task-0"), *(completed(f"task-{number}") for number in range(1, count))])


def standing(store: Store, *, before: int = 0) -> Standing:
    return Standing(store=store, started_at=at(0), finished_before=before, max_total_cost=Money(7))


def test_it_counts_tasks_and_instances_and_names_the_run(store: Store) -> None:
    finish(store, 5)
    store.record_intents([store_facts.launch_request("t1", price="0.36")], at(0), slots=4)
    store.record_launched("t1", store_facts.instance("i1", "t1", created=0))
    told = standing(store).at(at(3600))
    assert (told.job_id, told.run_id, told.phase, told.started_at) == ("job", "run", JobPhase.RUNNING, at(0))
    assert (told.total, told.finished, told.failed) == (20, 5, 1)
    assert told.counts[TaskStatus.COMPLETED] == 4
    assert (sum(told.instances.values()), told.price_per_hour, told.cost) == (1, Money("0.36"), Money("0.36"))
    assert told.max_total_cost == Money(7)


def test_what_is_expected_follows_from_the_pace_of_this_run(store: Store) -> None:
    finish(store, 10)
    store.record_intents([store_facts.launch_request("t1", price="0.36")], at(0), slots=4)
    store.record_launched("t1", store_facts.instance("i1", "t1", created=0))
    # 10 tasks in an hour, 10 to go: another hour. Where 5 had ended before, two more hours.
    assert standing(store).at(at(3600)).expected_cost == Money("0.72")
    assert standing(store, before=5).at(at(3600)).expected_cost == Money("1.08")


def test_nothing_is_expected_before_a_task_of_this_run_has_ended(store: Store) -> None:
    finish(store, 5)
    assert standing(store, before=5).at(at(3600)).expected_cost is None
    assert standing(store, before=4).at(at(0)).expected_cost is None


def test_a_job_that_is_complete_has_cost_what_it_cost(store: Store) -> None:
    finish(store, 20)
    told = standing(store).at(at(0) + timedelta(hours=1), phase=JobPhase.COMPLETE, reason="")
    assert told.expected_cost == told.cost == Money.zero()
