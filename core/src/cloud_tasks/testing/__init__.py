"""The conformance kit: what a backend has to do, as tests that its author inherits.

Subclass a contract in a test module, give its one fixture, ``subject``, and run pytest (extra ``testing``)::

    class TestMyQueue(QueueContract):
        @pytest.fixture
        def subject(self):
            return QueueSubject(backend=MY_BACKEND, settings=MySettings(...))

What is tested follows from the traits of the backend's descriptor. A test that does not hold is overridden with
``pytest.mark.xfail(reason="…")``; any other override is an error. `cloud_tasks.testing.fakes.memory` has backends that
keep the contracts without leaving the process; `cloud_tasks.testing.fakes.faults` makes any backend fail on purpose.
"""

from __future__ import annotations

import pytest

# Before they are imported, so that a failing assertion of the kit shows its values as one of the author's own does.
pytest.register_assert_rewrite(
    *(f"cloud_tasks.testing.{name}" for name in ("queue", "compute", "pricing", "event_sink", "task_source"))
)

from cloud_tasks.testing.contracts.compute import ComputeContract, ComputeSubject, Refusal  # noqa: E402
from cloud_tasks.testing.contracts.contract import Contract, eventually  # noqa: E402
from cloud_tasks.testing.contracts.event_sink import EventSinkContract, EventSinkSubject  # noqa: E402
from cloud_tasks.testing.contracts.pricing import PricingContract, PricingSubject  # noqa: E402
from cloud_tasks.testing.contracts.queue import QueueContract, QueueSubject  # noqa: E402
from cloud_tasks.testing.contracts.task_source import TaskSourceContract, TaskSourceSubject  # noqa: E402

__all__ = [
    "ComputeContract",
    "ComputeSubject",
    "Contract",
    "EventSinkContract",
    "EventSinkSubject",
    "PricingContract",
    "PricingSubject",
    "QueueContract",
    "QueueSubject",
    "Refusal",
    "TaskSourceContract",
    "TaskSourceSubject",
    "eventually",
]
