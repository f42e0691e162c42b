"""Conformance kit for plugins: contracts as inherited tests, fakes in memory, and fault injection.

Subclass a contract in a test module, provide its fixture ``subject``, and run pytest (extra ``testing``)::

    class TestMyQueue(QueueContract):
        @pytest.fixture
        def subject(self):
            return QueueSubject(backend=MY_BACKEND, settings=MySettings(...))

The traits of the backend's descriptor select what is tested. A test that cannot pass is overridden with
``pytest.mark.xfail(reason="…")``; any other override is an error.

Invariant, with a test: only the contracts import pytest, so programs can use the fakes without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cloud_tasks.attribute_docs import show_attributes

if TYPE_CHECKING:
    from cloud_tasks.testing.contracts.compute import ComputeContract, ComputeSubject, Refusal
    from cloud_tasks.testing.contracts.contract import Contract, eventually
    from cloud_tasks.testing.contracts.event_sink import EventSinkContract, EventSinkSubject
    from cloud_tasks.testing.contracts.instance_side import InstanceSideContract, InstanceSideSubject
    from cloud_tasks.testing.contracts.pricing import PricingContract, PricingSubject
    from cloud_tasks.testing.contracts.queue import QueueContract, QueueSubject
    from cloud_tasks.testing.contracts.setup import SetupContract, SetupSubject
    from cloud_tasks.testing.contracts.staging import StagingContract, StagingSubject
    from cloud_tasks.testing.contracts.task_source import TaskSourceContract, TaskSourceSubject
    from cloud_tasks.testing.fakes.faults import Fault, When, inject
    from cloud_tasks.testing.fakes.memory import Clock, MemoryProvider

__all__ = [
    "Clock",
    "ComputeContract",
    "ComputeSubject",
    "Contract",
    "EventSinkContract",
    "EventSinkSubject",
    "Fault",
    "InstanceSideContract",
    "InstanceSideSubject",
    "MemoryProvider",
    "PricingContract",
    "PricingSubject",
    "QueueContract",
    "QueueSubject",
    "Refusal",
    "SetupContract",
    "SetupSubject",
    "StagingContract",
    "StagingSubject",
    "TaskSourceContract",
    "TaskSourceSubject",
    "When",
    "eventually",
    "inject",
]

_MODULES = {
    "contracts.compute": ("ComputeContract", "ComputeSubject", "Refusal"),
    "contracts.contract": ("Contract", "eventually"),
    "contracts.event_sink": ("EventSinkContract", "EventSinkSubject"),
    "contracts.instance_side": ("InstanceSideContract", "InstanceSideSubject"),
    "contracts.pricing": ("PricingContract", "PricingSubject"),
    "contracts.queue": ("QueueContract", "QueueSubject"),
    "contracts.setup": ("SetupContract", "SetupSubject"),
    "contracts.staging": ("StagingContract", "StagingSubject"),
    "contracts.task_source": ("TaskSourceContract", "TaskSourceSubject"),
    "fakes.faults": ("Fault", "When", "inject"),
    "fakes.memory": ("Clock", "MemoryProvider"),
}


def __dir__() -> list[str]:
    """Return the exported names, which ``help()`` shows."""
    return list(__all__)


def __getattr__(name: str) -> Any:
    """Import the module of an exported name on first use."""
    for module, names in _MODULES.items():
        if name in names:
            return show_attributes(getattr(importlib.import_module(f"{__name__}.{module}"), name))
    raise AttributeError(f'module "{__name__}" has no attribute "{name}"')
