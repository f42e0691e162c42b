"""Faulty backends as subjects of the contracts: for the suites of core/tests/testing/*_suite.py."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any

import attrs
import pytest

from cloud_tasks.errors import ProviderError, RefusalScope
from cloud_tasks.model import BootDisk, Instance, LaunchRequest, Offer, OfferRequest, ProvisioningModel
from cloud_tasks.plugin import Compute, ComputeContext, Queue, QueueContext
from cloud_tasks.testing import ComputeSubject, MemoryProvider, QueueSubject, Refusal
from cloud_tasks.testing.fakes.memory_compute import MemoryCompute, MemoryInstances, MemoryPricing
from cloud_tasks.testing.fakes.memory_queue import MemoryQueue

__all__ = ["Answers", "ConsoleCompute", "compute_subject", "hold_to", "memory_requests", "queue_subject"]

ZONE = "memory-a"
_UNREACHABLE = "unreachable"
_REFUSED = "refused"


class Answers:
    """A backend whose server does not answer: each call raises, except those with an answer of their own."""

    def __init__(self, error: Callable[[], Exception], **answers: Any) -> None:
        self._error = error
        self._answers = answers

    def __getattr__(self, name: str) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            if name in self._answers:
                return self._answers[name]
            raise self._error()

        return call


def _away() -> Answers:
    return Answers(lambda: ProviderError("no answer", transient=True))


def _refused() -> Answers:
    return Answers(lambda: ProviderError("unknown token", hint="set memory.token"))


def queue_subject(kind: type[MemoryQueue]) -> QueueSubject:
    """Return a faulty queue as a subject. The class may have `check`, `restart`, `unreachable` and `refused`."""
    provider = MemoryProvider()
    failures: dict[str | None, Callable[[], Any]] = {
        _UNREACHABLE: getattr(kind, "unreachable", _away),
        _REFUSED: getattr(kind, "refused", _refused),
    }
    restart = getattr(kind, "restart", None)

    @contextmanager
    def open_broken(settings: Any, context: QueueContext) -> Iterator[Queue]:
        if settings in failures:
            yield failures[settings]()
        else:
            queue = kind(provider.queues, provider.queue.traits, name=context.name, lease=context.lease)
            with closing(queue):
                yield queue

    return QueueSubject(
        backend=attrs.evolve(provider.queue, open=open_broken, check=getattr(kind, "check", None)),
        settings=None,
        lease=timedelta(seconds=30),
        advance=provider.clock.advance,
        now=provider.clock,
        patience=timedelta(seconds=0.1),
        restart=None if restart is None else lambda: restart(provider.queues),
        unreachable=_UNREACHABLE,
        refused=_REFUSED,
    )


def _by_first_line(script: str) -> str:
    """Return a script that another one runs by its ``#!`` line."""
    first = script.partition("\n")[0]
    return f"exec {first[2:]} -c {shlex.quote(script)}" if first.startswith("#!") else script


class ConsoleCompute(MemoryCompute):
    """A correct compute backend with consoles: those of scripts that print and then wait."""

    def console_log(self, instance_id: str) -> str:
        return self.console(instance_id)[-64 * 1024 :]

    def console(self, instance_id: str) -> str:
        """Return the whole output of a script."""
        return str(getattr(self._state, "consoles", {}).get(instance_id, ""))

    def environment(self, request: LaunchRequest) -> dict[str, str]:
        """Return the environment of the script."""
        return {name: value for name, value in os.environ.items() if "CLOUD_TASKS_" not in name} | dict(request.secrets)

    def launch(self, request: LaunchRequest) -> Instance:
        instance = super().launch(request)
        program = _by_first_line(request.startup_script.partition("while true")[0])
        consoles: dict[str, str] = self._state.__dict__.setdefault("consoles", {})
        if instance.instance_id not in consoles:
            environment = self.environment(request)
            ran = subprocess.run(["bash", "-c", program], env=environment, capture_output=True, text=True, check=False)
            consoles[instance.instance_id] = ran.stdout
        return instance


def compute_subject(kind: type[MemoryCompute], provider: MemoryProvider | None = None, **traits: Any) -> ComputeSubject:
    """Return a faulty compute backend as a subject. The class may have `check`, `check_launch`, `unreachable` and
    `refused`."""
    provider = provider or MemoryProvider()
    offer = MemoryPricing(provider.instances).price(memory_requests(provider)[:1])[0]
    assert isinstance(offer, Offer)
    failures: dict[str | None, Callable[[], Any]] = {
        _UNREACHABLE: getattr(kind, "unreachable", _away),
        _REFUSED: getattr(kind, "refused", _refused),
    }
    instances: MemoryInstances = provider.instances

    @contextmanager
    def open_broken(settings: Any, context: ComputeContext) -> Iterator[Compute]:
        yield failures[settings]() if settings in failures else kind(instances)

    def end_foreign(instance_id: str) -> None:
        instances.records.pop(instance_id, None)

    def elsewhere(request: LaunchRequest) -> LaunchRequest:
        return attrs.evolve(request, offer=attrs.evolve(request.offer, zone="moon-a"))

    return ComputeSubject(
        backend=attrs.evolve(
            provider.compute,
            open=open_broken,
            traits=attrs.evolve(provider.compute.traits, **traits),
            check=getattr(kind, "check", None),
            check_launch=getattr(kind, "check_launch", None),
        ),
        settings=None,
        offer=offer,
        runs_scripts=issubclass(kind, ConsoleCompute),
        many=12,
        foreign=instances.start_unmanaged,
        end_foreign=end_foreign,
        refusals=(Refusal(request=elsewhere, scope=RefusalScope.ZONE),),
        advance=provider.clock.advance,
        now=provider.clock,
        patience=timedelta(seconds=0.1),
        unreachable=_UNREACHABLE,
        refused=_REFUSED,
    )


def memory_requests(provider: MemoryProvider) -> list[OfferRequest]:
    """Return requests for the prices of all types."""
    disk = BootDisk(disk_type="", size_gb=1)
    return [
        OfferRequest(instance_type=each, zone=ZONE, provisioning_model=provisioning_model, boot_disk=disk)
        for each in provider.instances.types
        for provisioning_model in ProvisioningModel
    ]


def hold_to(
    module: MutableMapping[str, Any], contract: type, make: Callable[[Any], object], kinds: Sequence[type[Any]]
) -> None:
    """Add a test class of the contract to a module for each faulty backend."""
    for kind in kinds:

        def subject(self: object, kind: type[Any] = kind) -> object:
            return make(kind)

        name = f"Test{kind.__name__}"
        module[name] = type(name, (contract,), {"subject": pytest.fixture(subject), "__module__": module["__name__"]})
