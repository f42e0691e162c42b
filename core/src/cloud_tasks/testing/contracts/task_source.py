"""What every task source has to do."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import attrs
import pytest

from cloud_tasks.errors import InputError
from cloud_tasks.model import Task
from cloud_tasks.plugin import NoSettings, TaskSource, TaskSourceBackend, TaskSourceContext
from cloud_tasks.testing.contracts.contract import Contract

__all__ = ["TaskSourceContract", "TaskSourceSubject"]


@attrs.frozen(kw_only=True)
class TaskSourceSubject:
    """A task source to be tested."""

    backend: TaskSourceBackend
    context: TaskSourceContext
    """Where its tasks are."""
    expected: Sequence[Task]
    """They, in order; two at least."""
    broken: Sequence[TaskSourceContext] = ()
    """Places whose tasks cannot be used: reading each to its end raises `InputError`."""
    settings: Any = attrs.field(factory=NoSettings)

    def open(self, context: TaskSourceContext | None = None) -> AbstractContextManager[TaskSource]:
        return self.backend.open(self.settings, context or self.context)


class TaskSourceContract(Contract):
    """The same tasks, in the same order, as often as asked; see `cloud_tasks.plugin.TaskSource`."""

    @pytest.fixture
    def source(self, subject: TaskSourceSubject) -> Iterator[TaskSource]:
        with subject.open() as source:
            yield source

    def test_the_tasks_are_those_expected_in_order(self, source: TaskSource, subject: TaskSourceSubject) -> None:
        assert len(subject.expected) >= 2
        assert list(source) == list(subject.expected)

    def test_every_task_has_an_id_of_its_own_and_named_data(self, source: TaskSource) -> None:
        tasks = list(source)
        assert all(isinstance(task, Task) and isinstance(task.task_id, str) and task.task_id for task in tasks)
        assert len({task.task_id for task in tasks}) == len(tasks)
        assert all(isinstance(name, str) for task in tasks for name in task.data)

    def test_iterating_again_gives_the_same_tasks(self, source: TaskSource) -> None:
        assert list(source) == list(source)

    def test_an_iteration_that_was_given_up_spoils_nothing(
        self, source: TaskSource, subject: TaskSourceSubject
    ) -> None:
        assert list(itertools.islice(source, 1)) == list(subject.expected[:1])
        assert list(source) == list(subject.expected)

    def test_opening_again_gives_the_same_tasks(self, subject: TaskSourceSubject) -> None:
        for _ in range(2):
            with subject.open() as source:
                assert list(source) == list(subject.expected)

    def test_the_expected_length_is_right_where_it_is_known(
        self, source: TaskSource, subject: TaskSourceSubject
    ) -> None:
        assert source.expected_length() in (None, len(subject.expected))

    def test_broken_input_is_an_input_error(self, subject: TaskSourceSubject) -> None:
        for context in subject.broken:
            with pytest.raises(InputError), subject.open(context) as source:
                for _ in source:
                    pass
