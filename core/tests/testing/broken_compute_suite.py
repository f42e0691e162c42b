"""Compute backends that cost money, with one fault each, run against their contract by test_broken_fakes.py."""

from __future__ import annotations

import itertools
import os
import shlex
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import attrs
import process_plugin
from contract_subjects import Answers, ConsoleCompute, compute_subject, hold_to

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import Image, Instance, InstanceState, LaunchRequest
from cloud_tasks.plugin import Reach
from cloud_tasks.testing import ComputeContract, ComputeSubject, MemoryProvider
from cloud_tasks.testing.fakes.memory_compute import MemoryCompute


def away() -> ProviderError:
    return ProviderError("no answer", transient=True)


class ChangedListing(MemoryCompute):
    """Base of backends with a fault in each listed instance."""

    def change(self, instance: Instance) -> Instance:
        raise NotImplementedError

    def instances(
        self, job_id: str | None, *, include_terminated: bool = False, foreign: bool = False
    ) -> Sequence[Instance]:
        found = super().instances(job_id, include_terminated=include_terminated, foreign=foreign)
        return [self.change(instance) for instance in found]


# Fields


class ListsNoClientToken(ChangedListing):
    def change(self, instance: Instance) -> Instance:
        return attrs.evolve(instance, client_token="")


class ListsAnotherDisk(ChangedListing):
    def change(self, instance: Instance) -> Instance:
        return attrs.evolve(instance, boot_disk_type="tape")


class ListsTerminatedInstances(MemoryCompute):
    def instances(
        self, job_id: str | None, *, include_terminated: bool = False, foreign: bool = False
    ) -> Sequence[Instance]:
        return super().instances(job_id, include_terminated=True, foreign=foreign)


class ListsImagesTwice(MemoryCompute):
    def images(self) -> Sequence[Image]:
        return [*super().images(), *super().images()]


# Unmanaged instances, several processes


class TerminatesUnmanagedInstances(MemoryCompute):
    def terminate(self, instance_ids: Sequence[str]) -> None:
        for instance_id in instance_ids:
            record = self._state.records.get(instance_id)
            if record is not None and not record.is_managed:
                del self._state.records[instance_id]
        super().terminate(instance_ids)


class LaunchesOncePerObject(MemoryCompute):
    """Looks for the token under a lock of its own, then launches."""

    numbers = itertools.count(1)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._lock = threading.Lock()

    def launch(self, request: LaunchRequest) -> Instance:
        with self._lock:
            for instance in self._state.ours().values():
                if instance.client_token == request.client_token:
                    return instance
            time.sleep(0.05)  # another process looks meanwhile
            instance = super().launch(attrs.evolve(request, client_token=f"unique-{next(self.numbers)}"))
            named = attrs.evolve(instance, client_token=request.client_token)
            record = self._state.records[instance.instance_id]
            self._state.records[instance.instance_id] = attrs.evolve(record, instance=named)
            return named


class LaunchesOncePerProcess(MemoryCompute):
    """An installed backend whose instances no other process finds."""


# Scripts


class RunsEveryScriptWithTheShell(ConsoleCompute):
    def launch(self, request: LaunchRequest) -> Instance:
        _, _, rest = request.startup_script.partition("\n")
        return super().launch(attrs.evolve(request, startup_script=rest))


class LosesTheSubmitFolder(ConsoleCompute):
    """Declares shared files and sets no CLOUD_TASKS_SUBMIT_DIR."""


# States and times


class PendingAgain(ChangedListing):
    def change(self, instance: Instance) -> Instance:
        if instance.state is not InstanceState.RUNNING or self._state.records[instance.instance_id].listings > 3:
            return instance
        return attrs.evolve(instance, state=InstanceState.PENDING, started_at=None)


class PendingWithAStart(ChangedListing):
    def change(self, instance: Instance) -> Instance:
        is_starting = instance.state is InstanceState.STARTING
        return attrs.evolve(instance, state=InstanceState.PENDING) if is_starting else instance


class StartsWithEachListing(ChangedListing):
    numbers = itertools.count(1)

    def change(self, instance: Instance) -> Instance:
        return attrs.evolve(instance, started_at=instance.created_at + timedelta(seconds=next(self.numbers)))


class CreatedWithEachListing(ChangedListing):
    numbers = itertools.count(1)

    def change(self, instance: Instance) -> Instance:
        return attrs.evolve(instance, created_at=instance.created_at - timedelta(seconds=next(self.numbers)))


class StartsBeforeItsCreation(ChangedListing):
    def change(self, instance: Instance) -> Instance:
        return attrs.evolve(instance, started_at=instance.created_at - timedelta(hours=2))


class StartsBeforeItsRequest(ChangedListing):
    def change(self, instance: Instance) -> Instance:
        early = instance.created_at - timedelta(hours=1)
        return attrs.evolve(instance, created_at=early, started_at=early)


class StartsInTheFuture(ChangedListing):
    def change(self, instance: Instance) -> Instance:
        is_running = instance.state is InstanceState.RUNNING
        return attrs.evolve(instance, started_at=instance.created_at + timedelta(hours=1)) if is_running else instance


class EndsBeforeItsStart(ChangedListing):
    def change(self, instance: Instance) -> Instance:
        is_ended = instance.state is InstanceState.TERMINATED
        return attrs.evolve(instance, ended_at=instance.created_at - timedelta(hours=2)) if is_ended else instance


class EndsWhileItRuns(ChangedListing):
    def change(self, instance: Instance) -> Instance:
        return attrs.evolve(instance, ended_at=instance.created_at)


class ForgetsItsStart(ChangedListing):
    def change(self, instance: Instance) -> Instance:
        is_ended = instance.state is InstanceState.TERMINATED
        return attrs.evolve(instance, started_at=None) if is_ended else instance


class StartsWithoutAZone(ChangedListing):
    def change(self, instance: Instance) -> Instance:
        return attrs.evolve(instance, started_at=instance.created_at.replace(tzinfo=None))


class ReasonsOfManyLines(ChangedListing):
    def change(self, instance: Instance) -> Instance:
        return attrs.evolve(instance, reason="Resources\nPriority")


class RefusesPendingInstances(MemoryCompute):
    """Declares a limit of three pending instances and accepts one."""


# Consoles and location


class ShowsTheBeginningOfAConsole(ConsoleCompute):
    def console_log(self, instance_id: str) -> str:
        return self.console(instance_id)[: 64 * 1024]


class ShowsTheWholeConsole(ConsoleCompute):
    def console_log(self, instance_id: str) -> str:
        return self.console(instance_id)


class ShowsNoConsole(ConsoleCompute):
    def console_log(self, instance_id: str) -> str:
        return ""


class OpensUnknownConsoles(MemoryCompute):
    def console_log(self, instance_id: str) -> str:
        if instance_id not in self._state.records:
            raise FileNotFoundError(instance_id)
        return ""


class RunsElsewhere(ConsoleCompute):
    def launch(self, request: LaunchRequest) -> Instance:
        return super().launch(attrs.evolve(request, startup_script=request.startup_script.replace("cat", "echo")))


class SharesFilesOverTheNetwork(MemoryCompute):
    """Declares shared files and another location."""


# Secrets


class DeliveringCompute(ConsoleCompute):
    """Base of backends that declare to deliver secrets."""


class DeliversNoSecrets(DeliveringCompute):
    def environment(self, request: LaunchRequest) -> dict[str, str]:
        return super().environment(attrs.evolve(request, secrets={}))


class WritesSecretsIntoTheScript(DeliveringCompute):
    def launch(self, request: LaunchRequest) -> Instance:
        exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in request.secrets.items())
        return super().launch(attrs.evolve(request, startup_script=exports + request.startup_script, secrets={}))


class QuotesSecrets(DeliveringCompute):
    def environment(self, request: LaunchRequest) -> dict[str, str]:
        quoted = {name: shlex.quote(value) for name, value in request.secrets.items()}
        return super().environment(attrs.evolve(request, secrets=quoted))


class ShowsSecretsInTheListing(DeliveringCompute):
    def launch(self, request: LaunchRequest) -> Instance:
        return super().launch(attrs.evolve(request, labels={**request.labels, **request.secrets}))


class InheritsTheController(DeliveringCompute):
    def environment(self, request: LaunchRequest) -> dict[str, str]:
        return {**os.environ, **request.secrets}


# Outages


class RaisesErrorsOfItsSdk(MemoryCompute):
    unreachable = staticmethod(lambda: Answers(ConnectionRefusedError))


class CallsAnOutagePermanent(MemoryCompute):
    unreachable = staticmethod(lambda: Answers(lambda: ProviderError("no answer")))


class ListsNothingDuringAnOutage(MemoryCompute):
    unreachable = staticmethod(lambda: Answers(away, instances=()))


class TerminatesNothingDuringAnOutage(MemoryCompute):
    unreachable = staticmethod(lambda: Answers(away, terminate=None))


class RetriesRefusedKeys(MemoryCompute):
    refused = staticmethod(lambda: Answers(away))


def subject_of(kind: type[MemoryCompute]) -> ComputeSubject:
    special: dict[type[MemoryCompute], Callable[[], ComputeSubject]] = {
        RunsElsewhere: lambda: compute_subject(kind, location=Reach.MACHINE),
        LaunchesOncePerProcess: lambda: attrs.evolve(
            compute_subject(kind, process_plugin.PROVIDER),
            backend=process_plugin.cloud_tasks_register_compute()[0],
            unreachable=None,
            refused=None,
        ),
        LosesTheSubmitFolder: lambda: compute_subject(kind, shares_files=True, location=Reach.MACHINE),
        SharesFilesOverTheNetwork: lambda: compute_subject(kind, shares_files=True, location=Reach.NETWORK),
        RefusesPendingInstances: lambda: compute_subject(
            kind, MemoryProvider(pending_listings=5, max_pending=1), max_pending=3
        ),
    }
    delivers = issubclass(kind, DeliveringCompute)
    return special.get(kind, lambda: compute_subject(kind, delivers_secrets=delivers))()


process_plugin.install()
FAULTY = [
    kind
    for base in (MemoryCompute, ChangedListing, ConsoleCompute, DeliveringCompute)
    for kind in base.__subclasses__()
    if kind.__module__ == __name__ and kind not in (ChangedListing, DeliveringCompute)
]
hold_to(globals(), ComputeContract, subject_of, FAULTY)
