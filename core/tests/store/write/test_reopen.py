"""Reopening finished tasks for a new pass."""

from __future__ import annotations

from pathlib import Path

from store_facts import event, new_store, started

from cloud_tasks.model import EventType, TaskStatus


def test_reopen_tasks_resets_interruptions(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a"]) as store:
        store.apply_events([started("a"), event(EventType.TASK_RELEASED, "a")])
        assert [message.losses for message in store.unfinished()] == [1]
        store.apply_events([started("a"), event(EventType.TASK_DEAD, "a", retry=False)])
        assert store.reopen_tasks([TaskStatus.DEAD]) == 1
        (message,) = store.pending_tasks(10)
        assert (message.losses, message.attempt) == (0, 2)
        assert store.summary().losses == 1
