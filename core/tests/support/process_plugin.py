"""An installed plugin whose backends keep their state in one process, with an instance side that imports an SDK.

`install` makes its entry point known to this process and to the processes that it starts with its path.
"""

from __future__ import annotations

import importlib
import itertools
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from cloud_tasks.model import InstanceIdentity, TerminationNotice
from cloud_tasks.plugin import ComputeBackend, InstanceContext, InstanceSide, QueueBackend
from cloud_tasks.testing.fakes.memory import MemoryProvider

__all__ = ["IDENTITY", "PROVIDER", "SDK", "cloud_tasks_register_compute", "cloud_tasks_register_queue", "install"]

_NAME = "in-process"
SDK = "wsgiref.simple_server"
"""A module that nothing else loads, in place of the controller's SDK."""
IDENTITY = InstanceIdentity(instance_id="in-process-1")
PROVIDER = MemoryProvider()
# Ids differ between processes.
PROVIDER.instances.numbers = itertools.count(os.getpid() * 1000)


class _Side:
    def identity(self) -> InstanceIdentity:
        return IDENTITY

    def termination_notice(self) -> TerminationNotice | None:
        return None


@contextmanager
def _open_instance(settings: Any, context: InstanceContext) -> Iterator[InstanceSide]:
    importlib.import_module(SDK)
    yield _Side()


def cloud_tasks_register_queue() -> Sequence[QueueBackend]:
    return (attrs.evolve(PROVIDER.queue, name=_NAME),)


def cloud_tasks_register_compute() -> Sequence[ComputeBackend]:
    return (attrs.evolve(PROVIDER.compute, name=_NAME, open_instance=_open_instance),)


def install() -> None:
    """Install the plugin for this process."""
    folder = Path(tempfile.mkdtemp(prefix="cloud-tasks-plugin-"))
    facts = folder / f"{_NAME.replace('-', '_')}-0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {_NAME}\nVersion: 0\n")
    (facts / "entry_points.txt").write_text(f"[cloud_tasks]\n{_NAME} = {__name__}\n")
    sys.path.append(str(folder))
