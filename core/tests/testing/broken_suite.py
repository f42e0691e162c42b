"""Backends with one fault each, run against their contracts by test_broken_fakes.py; every class must fail."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import attrs
from contract_subjects import compute_subject, hold_to, memory_requests, queue_subject

from cloud_tasks.convert import event_to_json
from cloud_tasks.errors import InputError, NotFoundError, ProviderError
from cloud_tasks.model import (
    Event,
    Headroom,
    Instance,
    JobPhase,
    JobProgress,
    LaunchRequest,
    Money,
    Offer,
    OfferRequest,
    ProvisioningModel,
    Task,
)
from cloud_tasks.plugin import (
    CheckContext,
    Delivery,
    Depth,
    EventSink,
    EventSinkBackend,
    EventSinkContext,
    Finding,
    Pricing,
    PricingContext,
    SendFailure,
    TaskSource,
    TaskSourceBackend,
    TaskSourceContext,
)
from cloud_tasks.testing import (
    ComputeContract,
    EventSinkContract,
    EventSinkSubject,
    PricingContract,
    PricingSubject,
    QueueContract,
    TaskSourceContract,
    TaskSourceSubject,
)
from cloud_tasks.testing.fakes.memory import MemoryProvider
from cloud_tasks.testing.fakes.memory_compute import MemoryCompute, MemoryPricing
from cloud_tasks.testing.fakes.memory_queue import MemoryQueue

# Queues


class ForgetsTheQueue(MemoryQueue):
    def receive(self, max_messages: int, *, wait: timedelta) -> Sequence[Delivery]:
        self.create()
        return super().receive(max_messages, wait=wait)


class CreateEmptiesTheQueue(MemoryQueue):
    def create(self) -> None:
        self.delete()
        super().create()

    def exists(self) -> bool:
        return True


class DeleteKeepsTheMessages(MemoryQueue):
    def delete(self) -> None:
        if not self.exists():
            raise NotFoundError("already deleted")

    def create(self) -> None:
        super().create()


class PurgeSparesLeasedMessages(MemoryQueue):
    def purge(self) -> None:
        messages = self._messages()
        messages[:] = [message for message in messages if message.lease_id]


class ForgetsWhatOthersSent(MemoryQueue):
    def close(self) -> None:
        if self.exists():
            self.purge()

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._own: set[bytes] = set()

    def send(self, bodies: Sequence[bytes], *, delay: timedelta = timedelta(0)) -> Sequence[SendFailure]:
        self._own.update(bodies)
        return super().send(bodies, delay=delay)

    def receive(self, max_messages: int, *, wait: timedelta) -> Sequence[Delivery]:
        return [each for each in super().receive(max_messages, wait=wait) if each.body in self._own]


class IgnoresItsName(MemoryQueue):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named | {"name": "the one"})


class ReadsBodiesAsText(MemoryQueue):
    def send(self, bodies: Sequence[bytes], *, delay: timedelta = timedelta(0)) -> Sequence[SendFailure]:
        return super().send([body.decode(errors="replace").strip().encode() for body in bodies], delay=delay)


class SendsOneBatchOnly(MemoryQueue):
    def send(self, bodies: Sequence[bytes], *, delay: timedelta = timedelta(0)) -> Sequence[SendFailure]:
        return super().send(bodies[:10], delay=delay)


class CutsLongMessages(MemoryQueue):
    def send(self, bodies: Sequence[bytes], *, delay: timedelta = timedelta(0)) -> Sequence[SendFailure]:
        return super().send([body[:1000] for body in bodies], delay=delay)


class OneTooLargeMessageStopsAll(MemoryQueue):
    def send(self, bodies: Sequence[bytes], *, delay: timedelta = timedelta(0)) -> Sequence[SendFailure]:
        if any(len(body) > self._traits.max_message_bytes for body in bodies):
            raise ProviderError("too large")
        return super().send(bodies, delay=delay)


class CannotDoNothing(MemoryQueue):
    def ack(self, lease_ids: Sequence[str]) -> Sequence[str]:
        if not lease_ids:
            raise ProviderError("an empty batch")
        return super().ack(lease_ids)


class IgnoresDelays(MemoryQueue):
    def send(self, bodies: Sequence[bytes], *, delay: timedelta = timedelta(0)) -> Sequence[SendFailure]:
        return super().send(bodies)

    def release(self, lease_ids: Sequence[str], *, delay: timedelta = timedelta(0)) -> Sequence[str]:
        return super().release(lease_ids)


class BringsMoreThanAsked(MemoryQueue):
    def receive(self, max_messages: int, *, wait: timedelta) -> Sequence[Delivery]:
        return super().receive(10, wait=wait)


class InventsMessages(MemoryQueue):
    def receive(self, max_messages: int, *, wait: timedelta) -> Sequence[Delivery]:
        return super().receive(max_messages, wait=wait) or [Delivery(lease_id="?", body=b"", delivery_count=1)]


def prevent_every_run(settings: Any, context: CheckContext) -> Iterator[Finding]:
    yield Finding(ok=False, subject="account", message="is not known", prevents_run=True)


class PreventsQueuesThatWork(MemoryQueue):
    check = staticmethod(prevent_every_run)


class LooksOnlyWhenAsked(MemoryQueue):
    """Checks for messages at the start and the end of the wait only."""

    def receive(self, max_messages: int, *, wait: timedelta) -> Sequence[Delivery]:
        found = super().receive(max_messages, wait=timedelta(0))
        if found:
            return found
        time.sleep(wait.total_seconds())
        return super().receive(max_messages, wait=timedelta(0))


class NeverLeases(MemoryQueue):
    def receive(self, max_messages: int, *, wait: timedelta) -> Sequence[Delivery]:
        deliveries = super().receive(max_messages, wait=wait)
        for message in self._messages():
            message.visible_at = self._queues.clock()
        return deliveries


class LeasesNeverEnd(MemoryQueue):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named | {"lease": timedelta(hours=10)})


class RemovesOnReceive(MemoryQueue):
    def receive(self, max_messages: int, *, wait: timedelta) -> Sequence[Delivery]:
        deliveries = super().receive(max_messages, wait=wait)
        super().ack([delivery.lease_id for delivery in deliveries])
        return deliveries


class CountsNoDeliveries(MemoryQueue):
    def receive(self, max_messages: int, *, wait: timedelta) -> Sequence[Delivery]:
        return [attrs.evolve(each, delivery_count=1) for each in super().receive(max_messages, wait=wait)]


class AckDoesNothing(MemoryQueue):
    def ack(self, lease_ids: Sequence[str]) -> Sequence[str]:
        return []


class LeaseNamesTheMessage(MemoryQueue):
    """Has the same lease id in every delivery, so that an expired lease can still ack."""

    def _lease_visible(self, limit: int) -> list[Delivery]:
        deliveries = super()._lease_visible(limit)
        for message in self._messages():
            if message.lease_id:
                message.lease_id = f"message-{id(message)}"
        by_body = {message.body: message.lease_id for message in self._messages()}
        return [attrs.evolve(each, lease_id=by_body[each.body] or "") for each in deliveries]


class TellsAllLeasesLost(MemoryQueue):
    def ack(self, lease_ids: Sequence[str]) -> Sequence[str]:
        return list(lease_ids) if super().ack(lease_ids) else []


class ExtendDoesNothing(MemoryQueue):
    def extend(self, lease_ids: Sequence[str], *, lease: timedelta) -> Sequence[str]:
        return []


class ExtendIsForEver(MemoryQueue):
    def extend(self, lease_ids: Sequence[str], *, lease: timedelta) -> Sequence[str]:
        return super().extend(lease_ids, lease=timedelta(hours=12))


class ReleaseDoesNothing(MemoryQueue):
    def release(self, lease_ids: Sequence[str], *, delay: timedelta = timedelta(0)) -> Sequence[str]:
        return []


class DepthIsAGuess(MemoryQueue):
    def depth(self) -> Depth:
        return attrs.evolve(super().depth(), visible=0)


# Computes


class PreventsLaunchesThatWork(MemoryCompute):
    check = staticmethod(prevent_every_run)


class LaunchesEveryTime(MemoryCompute):
    numbers = itertools.count()

    def launch(self, request: LaunchRequest) -> Instance:
        return super().launch(attrs.evolve(request, client_token=f"{request.client_token}{next(self.numbers)}"))


class ChecksTooStrictly(MemoryCompute):
    @staticmethod
    def check_launch(settings: Any, request: LaunchRequest) -> None:
        raise InputError("no script is short enough")


class ForgetsLabels(MemoryCompute):
    def launch(self, request: LaunchRequest) -> Instance:
        return super().launch(attrs.evolve(request, labels={}))


class AlwaysOnDemand(MemoryCompute):
    def launch(self, request: LaunchRequest) -> Instance:
        return super().launch(
            attrs.evolve(request, offer=attrs.evolve(request.offer, provisioning_model=ProvisioningModel.ON_DEMAND))
        )


class RefusesWithoutScope(MemoryCompute):
    def launch(self, request: LaunchRequest) -> Instance:
        try:
            return super().launch(request)
        except ProviderError as error:
            raise ProviderError("no") from error


class IgnoresLifetimes(MemoryCompute):
    def launch(self, request: LaunchRequest) -> Instance:
        return super().launch(attrs.evolve(request, max_lifetime=None))


class ListsOnePage(MemoryCompute):
    def instances(
        self, job_id: str | None, *, include_terminated: bool = False, foreign: bool = False
    ) -> Sequence[Instance]:
        return super().instances(job_id, include_terminated=include_terminated, foreign=foreign)[:3]


class ListsEveryJob(MemoryCompute):
    def instances(
        self, job_id: str | None, *, include_terminated: bool = False, foreign: bool = False
    ) -> Sequence[Instance]:
        return super().instances(None, include_terminated=include_terminated, foreign=foreign)


class ListsForeignInstances(MemoryCompute):
    def instances(
        self, job_id: str | None, *, include_terminated: bool = False, foreign: bool = False
    ) -> Sequence[Instance]:
        unmanaged = [record.instance for record in self._state.records.values() if not record.is_managed]
        return (*super().instances(job_id, include_terminated=include_terminated, foreign=foreign), *unmanaged)


class KnowsOnlyWhatItLaunched(MemoryCompute):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._launched: set[str] = set()

    def launch(self, request: LaunchRequest) -> Instance:
        instance = super().launch(request)
        self._launched.add(instance.instance_id)
        return instance

    def instances(
        self, job_id: str | None, *, include_terminated: bool = False, foreign: bool = False
    ) -> Sequence[Instance]:
        found = super().instances(job_id, include_terminated=include_terminated, foreign=foreign)
        return [instance for instance in found if instance.instance_id in self._launched]


class TerminatesNothing(MemoryCompute):
    def terminate(self, instance_ids: Sequence[str]) -> None:
        """Reports success."""


class TerminatesEverything(MemoryCompute):
    def terminate(self, instance_ids: Sequence[str]) -> None:
        super().terminate([instance.instance_id for instance in self.instances(None)] if instance_ids else [])


class TerminatesOnce(MemoryCompute):
    def terminate(self, instance_ids: Sequence[str]) -> None:
        alive = {instance.instance_id for instance in self.instances(None)}
        if unknown := set(instance_ids) - alive:
            raise NotFoundError(f"no such instances: {unknown}")
        super().terminate(instance_ids)


class ClaimsForeignInstances(MemoryCompute):
    def instances(
        self, job_id: str | None, *, include_terminated: bool = False, foreign: bool = False
    ) -> Sequence[Instance]:
        found = super().instances(job_id, include_terminated=include_terminated, foreign=foreign)
        return [attrs.evolve(instance, job_id=instance.job_id or "job") for instance in found]


class OverdrawnHeadroom(MemoryCompute):
    def headroom(self, offer: Offer) -> Headroom | None:
        return Headroom(instances=-3, limited_by="vCPUs")


class EndlessConsole(MemoryCompute):
    def console_log(self, instance_id: str) -> str:
        return "x" * 100_000


# Prices


def broken_pricing(kind: type[MemoryPricing]) -> PricingSubject:
    provider = MemoryProvider()
    requests = memory_requests(provider)
    unknown = attrs.evolve(requests[0], instance_type=attrs.evolve(requests[0].instance_type, name="memory-4096"))

    @contextmanager
    def open_broken(settings: Any, context: PricingContext) -> Iterator[Pricing]:
        yield kind(provider.instances)

    backend = attrs.evolve(provider.pricing, open=open_broken)
    return PricingSubject(backend=backend, requests=requests, unpriced=unknown)


class AnswersInItsOwnOrder(MemoryPricing):
    def price(self, requests: Sequence[OfferRequest]) -> Any:
        return sorted(super().price(requests), key=repr)


class LeavesOutTheUnpriced(MemoryPricing):
    def price(self, requests: Sequence[OfferRequest]) -> Any:
        return [answer for answer in super().price(requests) if isinstance(answer, Offer)]


class OneUnknownStopsAll(MemoryPricing):
    def price(self, requests: Sequence[OfferRequest]) -> Any:
        answers = super().price(requests)
        if not all(isinstance(answer, Offer) for answer in answers):
            raise ProviderError("one has no price")
        return answers


class PricesBelowZero(MemoryPricing):
    def price(self, requests: Sequence[OfferRequest]) -> Any:
        return [
            attrs.evolve(answer, price=attrs.evolve(answer.price, gpu=Money(-1)))
            if isinstance(answer, Offer)
            else answer
            for answer in super().price(requests)
        ]


class PricesFromNowhen(MemoryPricing):
    def price(self, requests: Sequence[OfferRequest]) -> Any:
        return [
            attrs.evolve(answer, priced_at=datetime(2026, 1, 1)) if isinstance(answer, Offer) else answer
            for answer in super().price(requests)
        ]


class PricesByTheMoment(MemoryPricing):
    numbers = itertools.count(1)

    def price(self, requests: Sequence[OfferRequest]) -> Any:
        extra = Money(next(self.numbers))
        return [
            attrs.evolve(answer, price=attrs.evolve(answer.price, gpu=extra)) if isinstance(answer, Offer) else answer
            for answer in super().price(requests)
        ]


# Event sinks


class ListSink:
    """A correct sink, the base of the faulty ones."""

    idempotent = False

    def __init__(self, arrived: list[Mapping[str, Any]]) -> None:
        self.arrived = arrived
        self.buffered: list[Event] = []

    def write(self, events: Sequence[Event]) -> None:
        self.buffered.extend(events)

    def flush(self) -> None:
        self.arrived.extend(self.encode(event) for event in self.buffered)
        self.buffered.clear()

    def close(self) -> None:
        self.flush()

    def encode(self, event: Event) -> Mapping[str, Any]:
        return event_to_json(event)


def broken_sink(kind: type[ListSink]) -> EventSinkSubject:
    arrived: list[Mapping[str, Any]] = []

    @contextmanager
    def open_sink(settings: Any, context: EventSinkContext) -> Iterator[EventSink]:
        sink = kind(arrived)
        yield sink
        sink.close()

    backend = EventSinkBackend(name="broken", summary="Broken", open=open_sink, idempotent=kind.idempotent)
    return EventSinkSubject(backend=backend, read_back=lambda: tuple(arrived))


class CloseLosesTheBuffer(ListSink):
    def close(self) -> None:
        self.buffered.clear()


class FlushDoesNothing(ListSink):
    def flush(self) -> None:
        """Writes on close only."""

    def close(self) -> None:
        super().flush()


class NewestFirst(ListSink):
    def flush(self) -> None:
        self.buffered.reverse()
        super().flush()


class StartsEmpty(ListSink):
    def __init__(self, arrived: list[Mapping[str, Any]]) -> None:
        arrived.clear()
        super().__init__(arrived)


class DropsDetails(ListSink):
    def encode(self, event: Event) -> Mapping[str, Any]:
        return event_to_json(attrs.evolve(event, details={}))


class KeepsTheLastThousand(ListSink):
    def flush(self) -> None:
        del self.buffered[:-1000]
        super().flush()


class FailsOnNothing(ListSink):
    def write(self, events: Sequence[Event]) -> None:
        super().write([events[0], *events[1:]])


class KnowsTasksOnly(ListSink):
    def write(self, events: Sequence[Event]) -> None:
        super().write([event for event in events if len(str(event.task_id)) == len(event.task_id or "")])


class RefusesWhatItKnows(ListSink):
    def write(self, events: Sequence[Event]) -> None:
        if {event.event_id for event in events} & {event.event_id for event in self.buffered}:
            raise ValueError("it is there already")
        super().write(events)


class KeepsTwice(ListSink):
    idempotent = True


class KnowsGoodEndsOnly(ListSink):
    def progress(self, progress: JobProgress) -> None:
        assert progress.phase in (JobPhase.RUNNING, JobPhase.COMPLETE), progress.phase


# Task sources


class RangeSource:
    """A correct source, the base of the faulty ones."""

    def __init__(self, location: str) -> None:
        self.location = location

    def __iter__(self) -> Iterator[Task]:
        yield from (Task(task_id=f"task-{number}", data={"number": number}) for number in range(3))

    def expected_length(self) -> int | None:
        return 3


def broken_source(kind: type[RangeSource]) -> TaskSourceSubject:
    @contextmanager
    def open_source(settings: Any, context: TaskSourceContext) -> Iterator[TaskSource]:
        yield kind(context.location)

    return TaskSourceSubject(
        backend=TaskSourceBackend(name="broken", summary="Broken", open=open_source),
        context=TaskSourceContext(location="good"),
        expected=[Task(task_id=f"task-{number}", data={"number": number}) for number in range(3)],
        broken=[TaskSourceContext(location="bad")],
    )


class AcceptsAnything(RangeSource):
    """Accepts a broken location."""


class RunsOut(RangeSource):
    def __init__(self, location: str) -> None:
        super().__init__(location)
        self._tasks = super().__iter__()

    def __iter__(self) -> Iterator[Task]:
        return self._tasks


class RepeatsIds(RangeSource):
    def __iter__(self) -> Iterator[Task]:
        return (attrs.evolve(task, task_id="task") for task in super().__iter__())


class Shuffles(RangeSource):
    opened = 0

    def __init__(self, location: str) -> None:
        super().__init__(location)
        type(self).opened += 1

    def __iter__(self) -> Iterator[Task]:
        tasks = list(super().__iter__())
        return iter(tasks[self.opened % 3 :] + tasks[: self.opened % 3])


class Miscounts(RangeSource):
    def expected_length(self) -> int | None:
        return 4


def _broken(base: type[Any]) -> list[type[Any]]:
    return [kind for kind in base.__subclasses__() if kind.__module__ == __name__]


hold_to(globals(), QueueContract, queue_subject, _broken(MemoryQueue))
hold_to(globals(), ComputeContract, compute_subject, _broken(MemoryCompute))
hold_to(globals(), PricingContract, broken_pricing, _broken(MemoryPricing))
hold_to(globals(), EventSinkContract, broken_sink, _broken(ListSink))
hold_to(globals(), TaskSourceContract, broken_source, _broken(RangeSource))
