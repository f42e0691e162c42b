"""Contract of task sources."""

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
    """A task source under test."""

    backend: TaskSourceBackend
    """Descriptor of the backend, found like an installed plugin: ``Registry(only=[\'name\'])``."""
    context: TaskSourceContext
    """Location of its tasks."""
    expected: Sequence[Task]
    """Its tasks in order, at least two."""
    broken: Sequence[TaskSourceContext] = ()
    """Locations of invalid tasks: reading each to its end raises `InputError`."""
    settings: Any = attrs.field(factory=NoSettings)
    """Settings of the backend."""

    def open(self, context: TaskSourceContext | None = None) -> AbstractContextManager[TaskSource]:
        """Open the backend."""
        return self.backend.open(self.settings, context or self.context)


class TaskSourceContract(Contract):
    """The same tasks in the same order in every iteration; see `cloud_tasks.plugin.TaskSource`."""

    @pytest.fixture
    def source(self, subject: TaskSourceSubject) -> Iterator[TaskSource]:
        with subject.open() as source:
            yield source

    def test_tasks_equal_the_expected_ones_in_order(self, source: TaskSource, subject: TaskSourceSubject) -> None:
        assert len(subject.expected) >= 2
        assert list(source) == list(subject.expected)

    def test_tasks_have_unique_ids_and_named_data(self, source: TaskSource) -> None:
        tasks = list(source)
        assert all(isinstance(task, Task) and isinstance(task.task_id, str) and task.task_id for task in tasks)
        assert len({task.task_id for task in tasks}) == len(tasks)
        assert all(isinstance(name, str) for task in tasks for name in task.data)

    def test_iteration_repeats_the_same_tasks(self, source: TaskSource) -> None:
        assert list(source) == list(source)

    def test_iteration_restarts_after_a_partial_one(self, source: TaskSource, subject: TaskSourceSubject) -> None:
        assert list(itertools.islice(source, 1)) == list(subject.expected[:1])
        assert list(source) == list(subject.expected)

    def test_open_repeats_the_same_tasks(self, subject: TaskSourceSubject) -> None:
        for _ in range(2):
            with subject.open() as source:
                assert list(source) == list(subject.expected)

    def test_expected_length_is_correct_if_known(self, source: TaskSource, subject: TaskSourceSubject) -> None:
        assert source.expected_length() in (None, len(subject.expected))

    def test_broken_input_raises_input_error(self, subject: TaskSourceSubject) -> None:
        for context in subject.broken:
            with pytest.raises(InputError), subject.open(context) as source:
                for _ in source:
                    pass
