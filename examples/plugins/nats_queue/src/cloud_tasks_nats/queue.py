"""Queue on a NATS server: a stream, which removes acked messages, with one consumer.

Invariants, tested by the conformance kit:

1. A lease ends here before the server delivers the message again. The server honours late acks, from any holder.
2. Each `create` and each `purge` makes a consumer with a new name, so that acks of former leases reach no consumer:
   message numbers start again in a new stream.
3. Each change is confirmed by the server before a method returns.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import api
from nats.js import errors as js_errors

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks.plugin import Depth, QueueContext
from cloud_tasks.plugin.kit import BatchedQueue, Held, Received, Refused, RequestLimits, safe_name
from cloud_tasks_nats.connection import ANSWER, Server
from cloud_tasks_nats.settings import NatsSettings
from cloud_tasks_nats.traits import TRAITS

__all__ = ["NatsQueue"]

_MARGIN = timedelta(seconds=0.25)
_RESOLUTION = timedelta(milliseconds=100)
_POLL = timedelta(seconds=5)
_SILENCE = 1.0
_ATTEMPTS = 20
# A server drops a client that is 64 MiB behind.
_BYTES = 8 * 1024 * 1024
_LIMITS = RequestLimits(send=TRAITS.send_batch, receive=TRAITS.receive_batch, settle=500, send_bytes=_BYTES)
_DELAY = "Cloud-Tasks-Delay"


class NatsQueue(BatchedQueue[str]):
    """The `Queue` of one name; the payload of a lease is the subject of its acks."""

    def __init__(self, settings: NatsSettings, context: QueueContext) -> None:
        super().__init__(TRAITS, _LIMITS, lease=context.lease, threads=4, name="nats", resolution=_RESOLUTION)
        name = safe_name(context.name, allowed="A-Za-z0-9_-", longest=120)
        self._stream = f"cloud-tasks_{name}"
        self._subject = f"cloud-tasks.{name}"
        self._ack_wait = (self._lease + _MARGIN).total_seconds()
        self._consumer: api.ConsumerInfo | None = None
        self._server = Server(settings, f'queue "{context.name}" on the NATS server')

    def create(self) -> None:
        self._server.call(self._create)

    def delete(self) -> None:
        with suppress(NotFoundError):
            self._server.call(lambda client: client.jetstream().delete_stream(self._stream))

    def purge(self) -> None:
        self._server.call(self._purge)

    def exists(self) -> bool:
        try:
            self._server.call(lambda client: client.jetstream().stream_info(self._stream))
        except NotFoundError:
            return False
        return True

    def depth(self) -> Depth:
        return self._server.call(self._depth)

    def close(self) -> None:
        super().close()
        self._server.close()

    def _send(self, messages: Sequence[bytes], delay: timedelta) -> Mapping[int, Refused]:
        return self._server.call(lambda client: self._publish(client, messages, delay))

    def _receive(self, count: int, wait: timedelta) -> Sequence[Received[str]]:
        return self._server.call(lambda client: self._lease_messages(client, count, min(wait, _POLL)), wait=_POLL)

    def _ack(self, held: Sequence[Held[str]]) -> Mapping[int, Refused]:
        return self._server.call(lambda client: _answer(client, held, [b"+ACK"] * len(held)))

    def _change(self, held: Sequence[Held[str]], leases: Sequence[timedelta]) -> Mapping[int, Refused]:
        answers = [_end_in((lease + _MARGIN).total_seconds()) if lease else b"-NAK" for lease in leases]
        return self._server.call(lambda client: _answer(client, held, answers))

    async def _create(self, client: Client) -> None:
        kind: dict[str, Any] = {"retention": api.RetentionPolicy.WORK_QUEUE, "storage": api.StorageType.FILE}
        try:
            await client.jetstream().add_stream(name=self._stream, subjects=[self._subject], **kind)
        except js_errors.BadRequestError as error:
            if error.err_code != 10058:  # the name is in use
                raise
        await self._find_consumer(client)

    async def _purge(self, client: Client) -> None:
        await client.jetstream().purge_stream(self._stream)
        for name in await self._consumer_names(client):
            with suppress(js_errors.NotFoundError):
                await client.jetstream().delete_consumer(self._stream, name)
        await self._find_consumer(client)

    async def _depth(self, client: Client) -> Depth:
        consumer = await self._find_consumer(client)
        messages = (await client.jetstream().stream_info(self._stream)).state.messages
        # Includes messages that were released, or whose lease has ended, until they are delivered again.
        leased = min(consumer.num_ack_pending or 0, messages)
        return Depth(visible=messages - leased, in_flight=leased, exact=False, as_of=datetime.now(UTC))

    async def _publish(self, client: Client, messages: Sequence[bytes], delay: timedelta) -> dict[int, Refused]:
        stream = client.jetstream(timeout=ANSWER)
        headers = {_DELAY: str(delay.total_seconds())} if delay else {}
        sends = [stream.publish(self._subject, body, stream=self._stream, headers={**headers}) for body in messages]
        results = await asyncio.gather(*sends, return_exceptions=True)
        if any(isinstance(each, js_errors.NoStreamResponseError) for each in results):
            await stream.stream_info(self._stream)  # raises NotFoundError if there is no such queue
        errors = {index: each for index, each in enumerate(results) if isinstance(each, BaseException)}
        failed = [each for each in errors.values() if not isinstance(each, nats.errors.MaxPayloadError)]
        if len(failed) == len(messages):
            raise failed[0]
        return {index: Refused(str(each), transient=each in failed) for index, each in errors.items()}

    async def _lease_messages(self, client: Client, count: int, wait: timedelta) -> list[Received[str]]:
        consumer = self._consumer = self._consumer or await self._find_consumer(client)
        try:
            messages = await _pull(client, consumer, count, wait)
        except js_errors.NotFoundError:
            consumer = self._consumer = await self._find_consumer(client)
            messages = await _pull(client, consumer, count, wait)
        received: list[Received[str]] = []
        changes: list[Awaitable[Msg]] = []
        for message in messages:
            delay = float((message.headers or {}).get(_DELAY, 0))
            number = message.metadata.num_delivered - (1 if delay else 0)
            if number == 0:
                # Only an answer to a delivery can carry a delay, so the first one is not passed on.
                changes.append(client.request(message.reply, _end_in(delay), timeout=ANSWER))
                continue
            if consumer.config.ack_wait != self._ack_wait:
                changes.append(client.request(message.reply, _end_in(self._ack_wait), timeout=ANSWER))
            key = f"{consumer.name}:{message.metadata.sequence.stream}"
            received.append(Received(body=message.data, payload=message.reply, key=key, delivery_count=number))
        await asyncio.gather(*changes)
        return received

    async def _find_consumer(self, client: Client) -> api.ConsumerInfo:
        """Return the consumer; create it after `create` or `purge`, in the first process that needs it."""
        for _ in range(_ATTEMPTS):
            # Another process may remove it after each answer, by a purge.
            for name in await self._consumer_names(client):
                # The answer about one that is being removed may be empty, which the library cannot read.
                with suppress(js_errors.NotFoundError, TypeError):
                    return await client.jetstream().consumer_info(self._stream, name)
            config = api.ConsumerConfig(
                durable_name=uuid4().hex, ack_wait=self._ack_wait, max_ack_pending=-1, max_waiting=10_000
            )
            # A stream of this kind has one consumer only: if another process was faster, this call is refused.
            with suppress(js_errors.BadRequestError):
                return await client.jetstream().add_consumer(self._stream, config)
        raise ProviderError("several programs purge the queue", transient=True)

    async def _consumer_names(self, client: Client) -> Sequence[str]:
        """Return the names of the consumers; a listing of all their properties fails while one is removed."""
        answer = await client.request(f"$JS.API.CONSUMER.NAMES.{self._stream}", b"", timeout=ANSWER)
        found = json.loads(answer.data)
        if "error" in found:
            js_errors.APIError.from_error(found["error"])
        names: Sequence[str] = found.get("consumers") or ()
        return names


def _end_in(seconds: float) -> bytes:
    """Return the answer to a delivery that ends its lease after a time."""
    return b"-NAK " + json.dumps({"delay": round(seconds * 1e9)}).encode()


async def _answer(client: Client, held: Sequence[Held[str]], answers: Sequence[bytes]) -> dict[int, Refused]:
    """Answer deliveries; refuse those whose consumer does not exist."""
    requests = [client.request(each.payload, text, timeout=ANSWER) for each, text in zip(held, answers, strict=True)]
    results = await asyncio.gather(*requests, return_exceptions=True)
    for each in results:
        if isinstance(each, BaseException) and not isinstance(each, nats.errors.NoRespondersError):
            raise each
    gone = Refused("the queue was deleted or purged", transient=False)
    return {index: gone for index, each in enumerate(results) if isinstance(each, BaseException)}


async def _pull(client: Client, consumer: api.ConsumerInfo, count: int, wait: timedelta) -> list[Msg]:
    """Return the available messages, or the first within a time.

    Raises:
        nats.js.errors.NotFoundError: The consumer does not exist.
    """
    request: dict[str, Any] = {"batch": count, "max_bytes": _BYTES, "no_wait": True}
    if wait:
        request["expires"] = round(wait.total_seconds() * 1e9)
    subject = f"$JS.API.CONSUMER.MSG.NEXT.{consumer.stream_name}.{consumer.name}"
    inbox = client.new_inbox()
    answers = await client.subscribe(inbox)
    messages: list[Msg] = []
    try:
        await client.publish(subject, json.dumps(request).encode(), inbox)
        deadline = asyncio.get_running_loop().time() + wait.total_seconds() + ANSWER
        while len(messages) < count and asyncio.get_running_loop().time() < deadline:
            try:
                message = await answers.next_msg(timeout=_SILENCE)
            except nats.errors.TimeoutError:
                # A consumer that does not exist does not answer.
                await client.jetstream().consumer_info(consumer.stream_name, consumer.name)
                continue
            if "Status" in (message.headers or {}):
                break
            messages.append(message)
    finally:
        if client.is_connected:
            await answers.unsubscribe()
    return messages
