"""Queues that lose tasks, with one fault each, run against their contract by test_broken_fakes.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import attrs
import process_plugin
from contract_subjects import Answers, hold_to, queue_subject

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks.plugin import Delivery, Depth, SendFailure
from cloud_tasks.testing import QueueContract, QueueSubject
from cloud_tasks.testing.fakes.memory_queue import MemoryQueue, MemoryQueues, _Message


def away() -> ProviderError:
    return ProviderError("no answer", transient=True)


# Leases


class HonoursLeasesOfAFormerQueue(MemoryQueue):
    """Names a lease by the number of its message, which starts again with each queue, and ends its own leases only."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._own: set[str] = set()

    def delete(self) -> None:
        super().delete()
        self._own.clear()

    def purge(self) -> None:
        super().purge()
        self._own.clear()

    def _lease_visible(self, limit: int) -> list[Delivery]:
        deliveries = super()._lease_visible(limit)
        names = {each.lease_id: f"message-{number}" for number, each in enumerate(self._messages()) if each.lease_id}
        for message in self._messages():
            message.lease_id = names.get(message.lease_id)
        renamed = [attrs.evolve(each, lease_id=names[each.lease_id]) for each in deliveries]
        self._own.update(each.lease_id for each in renamed)
        return renamed

    def _settle(self, lease_ids: Sequence[str], act: Callable[[_Message], None]) -> list[str]:
        valid = [lease for lease in lease_ids if lease in self._own]
        return [*super()._settle(valid, act), *(lease for lease in lease_ids if lease not in self._own)]


class TrustsItsOwnTable(MemoryQueue):
    """Ends a lease only when this object receives the message again."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._held: dict[str, _Message] = {}

    def _lease_visible(self, limit: int) -> list[Delivery]:
        deliveries = super()._lease_visible(limit)
        for message in self._messages():
            if message.lease_id in {each.lease_id for each in deliveries}:
                self._held = {lease: each for lease, each in self._held.items() if each is not message}
                self._held[message.lease_id or ""] = message
        return deliveries

    def _settle(self, lease_ids: Sequence[str], act: Callable[[_Message], None]) -> list[str]:
        for lease in lease_ids:
            if lease in self._held:
                self._held[lease].lease_id = lease
        return super()._settle(lease_ids, act)


class TakesReleasedLeases(MemoryQueue):
    """Reports no lease of a batch as lost if one is valid."""

    def ack(self, lease_ids: Sequence[str]) -> Sequence[str]:
        lost = super().ack(lease_ids)
        return lost if len(lost) == len(lease_ids) else []


class DropsAfterTenDeliveries(MemoryQueue):
    def _lease_visible(self, limit: int) -> list[Delivery]:
        messages = self._messages()
        messages[:] = [message for message in messages if message.deliveries < 10]
        return super()._lease_visible(limit)


class LeasesTwentyMessages(MemoryQueue):
    most = 20

    def _lease_visible(self, limit: int) -> list[Delivery]:
        now = self._queues.clock()
        leased = sum(message.visible_at > now for message in self._messages())
        return super()._lease_visible(max(0, min(limit, self.most - leased)))


class LeasesAThousandMessages(LeasesTwentyMessages):
    most = 1000


class KeepsAThousandMessages(MemoryQueue):
    def send(self, bodies: Sequence[bytes], *, delay: timedelta = timedelta(0)) -> Sequence[SendFailure]:
        failures = super().send(bodies, delay=delay)
        del self._messages()[:-1000]
        return failures


# Confirmation


class SendIsUnconfirmed(MemoryQueue):
    unreachable = staticmethod(lambda: Answers(away, send=()))

    def send(self, bodies: Sequence[bytes], *, delay: timedelta = timedelta(0)) -> Sequence[SendFailure]:
        return super().send(bodies, delay=delay) if self.exists() else ()


class SendsOnClose(MemoryQueue):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._buffer: list[bytes] = []

    def send(self, bodies: Sequence[bytes], *, delay: timedelta = timedelta(0)) -> Sequence[SendFailure]:
        self._buffer += bodies
        return ()

    def close(self) -> None:
        if self.exists():
            super().send(self._buffer)


class AckIsUnconfirmed(MemoryQueue):
    def ack(self, lease_ids: Sequence[str]) -> Sequence[str]:
        return super().ack(lease_ids) if self.exists() else ()


class ReleaseIsUnconfirmed(MemoryQueue):
    def release(self, lease_ids: Sequence[str], *, delay: timedelta = timedelta(0)) -> Sequence[str]:
        return super().release(lease_ids, delay=delay) if self.exists() else ()


class ExtendIsUnconfirmed(MemoryQueue):
    def extend(self, lease_ids: Sequence[str], *, lease: timedelta) -> Sequence[str]:
        return super().extend(lease_ids, lease=lease) if self.exists() else ()


class AcksOnClose(MemoryQueue):
    def ack(self, lease_ids: Sequence[str]) -> Sequence[str]:
        held = {message.lease_id for message in self._messages()}
        return [lease for lease in lease_ids if lease not in held]


# Restarts and outages


class KeepsMessagesInMemory(MemoryQueue):
    @staticmethod
    def restart(queues: MemoryQueues) -> None:
        for messages in queues.messages.values():
            messages.clear()


class KeepsAcksInMemory(MemoryQueue):
    acked: list[tuple[str, _Message]] = []  # noqa: RUF012 - shared by the objects of a process

    def ack(self, lease_ids: Sequence[str]) -> Sequence[str]:
        self.acked += [(self._name, each) for each in self._messages() if each.lease_id in lease_ids]
        return super().ack(lease_ids)

    @classmethod
    def restart(cls, queues: MemoryQueues) -> None:
        for name, message in cls.acked:
            queues.messages.get(name, []).append(message)
        cls.acked.clear()


class CountsAckedMessagesAfterARestart(MemoryQueue):
    extra = 0

    @classmethod
    def restart(cls, queues: MemoryQueues) -> None:
        cls.extra = 13

    def depth(self) -> Depth:
        depth = super().depth()
        return attrs.evolve(depth, visible=(depth.visible or 0) + self.extra)


class RaisesErrorsOfItsLibrary(MemoryQueue):
    unreachable = staticmethod(lambda: Answers(ConnectionRefusedError))


class GivesUpOnAnOutage(MemoryQueue):
    unreachable = staticmethod(lambda: Answers(lambda: ProviderError("no answer")))


class IsEmptyDuringAnOutage(MemoryQueue):
    unreachable = staticmethod(lambda: Answers(away, receive=()))


class IsMissingDuringAnOutage(MemoryQueue):
    unreachable = staticmethod(lambda: Answers(away, exists=False))


class IsNotFoundDuringAnOutage(MemoryQueue):
    unreachable = staticmethod(lambda: Answers(lambda: NotFoundError("no queue")))


class RetriesRefusedCredentials(MemoryQueue):
    refused = staticmethod(lambda: Answers(away))


class RefusesWithoutAHint(MemoryQueue):
    refused = staticmethod(lambda: Answers(lambda: ProviderError("401")))


class IsReachedByAWord(MemoryQueue):
    """Declares where it can be used in other words."""


class KeepsMessagesInItsProcess(MemoryQueue):
    """An installed queue whose messages no other process finds."""


# Depth


class CountsReleasedMessagesAsLeased(MemoryQueue):
    def depth(self) -> Depth:
        depth, messages = super().depth(), self._messages()
        leased = sum(message.deliveries > 0 for message in messages)
        return attrs.evolve(depth, visible=len(messages) - leased, in_flight=leased)


class CountsExpiredLeasesAsLeased(MemoryQueue):
    def depth(self) -> Depth:
        depth, messages = super().depth(), self._messages()
        leased = sum(message.lease_id is not None for message in messages)
        return attrs.evolve(depth, visible=len(messages) - leased, in_flight=leased)


class CountsLeasesOfItsOwn(MemoryQueue):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._has_leased = False

    def receive(self, max_messages: int, *, wait: timedelta) -> Sequence[Delivery]:
        self._has_leased = True
        return super().receive(max_messages, wait=wait)

    def depth(self) -> Depth:
        depth = super().depth()
        total = (depth.visible or 0) + (depth.in_flight or 0)
        return depth if self._has_leased else attrs.evolve(depth, visible=total, in_flight=0)


def subject_of(kind: type[MemoryQueue]) -> QueueSubject:
    subject = queue_subject(kind)
    if kind is IsReachedByAWord:
        traits = attrs.evolve(subject.traits, reach="this host")
        return attrs.evolve(subject, backend=attrs.evolve(subject.backend, traits=traits))
    if kind is KeepsMessagesInItsProcess:
        (backend,) = process_plugin.cloud_tasks_register_queue()
        clock = process_plugin.PROVIDER.clock
        return attrs.evolve(
            subject, backend=backend, advance=clock.advance, now=clock, restart=None, unreachable=None, refused=None
        )
    return subject


process_plugin.install()
FAULTY = [kind for kind in MemoryQueue.__subclasses__() if kind.__module__ == __name__] + [LeasesAThousandMessages]
hold_to(globals(), QueueContract, subject_of, FAULTY)
