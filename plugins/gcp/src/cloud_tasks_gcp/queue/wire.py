"""The calls to Pub/Sub that a queue makes, over one connection.

Pulls go past the generated client, for it has no way to begin a call and look for its answer later.

Invariants, each with a test:

1. A message that Pub/Sub refuses takes no other with it: what is refused is halved until the culprit is alone.
2. Topic and subscription belong together, or there is no queue: a subscription that outlived its topic is made anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import grpc
from google.api_core import exceptions as api
from google.api_core.gapic_v1 import routing_header
from google.pubsub_v1 import PublisherClient, SubscriberClient, types
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from cloud_tasks.errors import ProviderError
from cloud_tasks_gcp.credentials import credentials, is_stand_in
from cloud_tasks_gcp.queue.failures import RETRY, calling
from cloud_tasks_gcp.queue.names import Names
from cloud_tasks_gcp.queue.settling import settle
from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["Shape", "Wire", "message", "open_channel"]

_TIMEOUT = 30.0
"""Seconds for one try of a call other than a pull."""
_LONG_PULL = 15.0
"""Seconds. Longer saves calls; but for as long, messages may be sent to a machine that was taken away meanwhile."""
_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
)
_PAYLOADS: dict[str, Any] = {
    "message": types.PubsubMessage.pb(),
    "publish": types.PublishRequest.pb(),
    "pull": types.PullRequest.pb(),
    "pulled": types.PullResponse.pb(),
    "ack": types.AcknowledgeRequest.pb(),
    "modify": types.ModifyAckDeadlineRequest.pb(),
}


@attrs.frozen(kw_only=True)
class Shape:
    """What a queue is made with."""

    ack_deadline: int
    """Seconds; the first lease of a message that is pulled."""
    retention: timedelta
    labels: Mapping[str, str]
    exactly_once: bool = False
    dead_letter_topic: str | None = None
    max_delivery_attempts: int = 100


def open_channel(settings: GcpSettings) -> Any:
    """A connection to Pub/Sub, or to the stand-in that the settings name. Calls nobody yet."""
    endpoint = settings.pubsub_endpoint
    own = credentials(settings, endpoint=endpoint or None)
    host = endpoint.removeprefix("https://").removeprefix("http://").rstrip("/")
    if is_stand_in(endpoint):
        return grpc.insecure_channel(host, options=_OPTIONS)
    address = (host or "pubsub.googleapis.com") if ":" in host else f"{host or 'pubsub.googleapis.com'}:443"
    return SubscriberGrpcTransport.create_channel(address, credentials=own, options=_OPTIONS)


class Wire:
    """The calls. Thread-safe.

    Args:
        channel: From `open_channel`; closed with this object.
    """

    def __init__(self, channel: Any, where: Names, project: str) -> None:
        self._channel = channel
        self._where = where
        self._project = project
        self._publisher = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
        self._subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
        self._pull = _method(channel, "Pull", _PAYLOADS["pull"], _PAYLOADS["pulled"])
        self._modify = _method(channel, "ModifyAckDeadline", _PAYLOADS["modify"], None)
        self._releases: set[Any] = set()
        route: Any = routing_header.to_grpc_metadata  # its library is typed in part
        self._metadata = (route((("subscription", where.subscription),)),)

    # Life of the queue

    def create(self, shape: Shape) -> None:
        """Make topic and subscription; does nothing where both are there and belong together."""
        with calling("creating the queue", self._project):
            with suppress(api.AlreadyExists):
                self._publisher.create_topic(
                    request={"name": self._where.topic, "labels": dict(shape.labels)}, retry=RETRY, timeout=_TIMEOUT
                )
            try:
                self._create_subscription(shape)
            except api.AlreadyExists:
                if self._is_attached(self._get()):
                    return
                # It outlived its topic, and would get nothing of what is sent to the new one.
                self._delete_subscription()
                self._create_subscription(shape)

    def delete(self) -> None:
        """Remove both. The topic goes first: without its subscription it would swallow what is sent to it."""
        with calling("deleting the queue", self._project):
            with suppress(api.NotFound):
                self._publisher.delete_topic(request={"topic": self._where.topic}, retry=RETRY, timeout=_TIMEOUT)
            self._delete_subscription()

    def is_there(self) -> bool:
        """Whether the subscription exists and its topic does."""
        with calling("looking for the queue", self._project):
            try:
                return self._is_attached(self._get())
            except api.NotFound:
                return False

    def require(self) -> None:
        """Raises `NotFound` where the subscription does not exist."""
        with calling("looking for the queue", self._project):
            self._get()

    def seek_to_now(self) -> None:
        """Have all messages acknowledged that were published before this moment, by this machine's clock."""
        with calling("purging the queue", self._project):
            self._subscriber.seek(
                request={"subscription": self._where.subscription, "time": datetime.now(UTC)},
                retry=RETRY,
                timeout=_TIMEOUT,
            )

    def _create_subscription(self, shape: Shape) -> None:
        wanted: dict[str, Any] = {
            "name": self._where.subscription,
            "topic": self._where.topic,
            "ack_deadline_seconds": shape.ack_deadline,
            "message_retention_duration": shape.retention,
            "labels": dict(shape.labels),
            "enable_exactly_once_delivery": shape.exactly_once,
        }
        if shape.dead_letter_topic:
            wanted["dead_letter_policy"] = {
                "dead_letter_topic": shape.dead_letter_topic,
                "max_delivery_attempts": shape.max_delivery_attempts,
            }
        self._subscriber.create_subscription(request=wanted, retry=RETRY, timeout=_TIMEOUT)

    def _delete_subscription(self) -> None:
        with suppress(api.NotFound):
            self._subscriber.delete_subscription(
                request={"subscription": self._where.subscription}, retry=RETRY, timeout=_TIMEOUT
            )

    def _get(self) -> Any:
        return self._subscriber.get_subscription(
            request={"subscription": self._where.subscription}, retry=RETRY, timeout=_TIMEOUT
        )

    def _is_attached(self, subscription: Any) -> bool:
        return bool(subscription.topic == self._where.topic)

    # Messages

    def publish(self, messages: Sequence[Any]) -> dict[int, ProviderError]:
        """Send messages that fit into one request; returns those that were not sent, by index.

        A failure of the connection or the service concerns all of them, a refusal only those that are refused.
        """
        request = _PAYLOADS["publish"](topic=self._where.topic, messages=messages)
        try:
            with calling("sending to the queue", self._project):
                try:
                    self._publisher.publish(request=types.PublishRequest.wrap(request), retry=RETRY, timeout=_TIMEOUT)
                except api.InvalidArgument:
                    if len(messages) == 1:
                        raise
                    middle = len(messages) // 2
                    failures = self.publish(messages[:middle])
                    later = self.publish(messages[middle:])
                    return failures | {middle + index: error for index, error in later.items()}
        except ProviderError as error:
            return dict.fromkeys(range(len(messages)), error)
        return {}

    def begin_pull(self, count: int) -> Any:
        """Ask for messages; returns the call, a `grpc.Future` whose result has ``received_messages``."""
        request = _PAYLOADS["pull"](subscription=self._where.subscription, max_messages=count)
        return self._pull.future(request, timeout=_LONG_PULL, metadata=self._metadata)

    def begin_release(self, ack_ids: Sequence[str]) -> None:
        """Give messages back without waiting for the answer; where it fails, their lease ends by itself."""
        request = _PAYLOADS["modify"](subscription=self._where.subscription, ack_ids=ack_ids, ack_deadline_seconds=0)
        call = self._modify.future(request, timeout=_TIMEOUT, metadata=self._metadata)
        # gRPC cancels a call that nobody refers to.
        self._releases.add(call)
        call.add_done_callback(self._releases.discard)

    def acknowledge(self, ack_ids: Sequence[str]) -> list[str]:
        """Remove messages, as many as fit into one request; returns the ack ids that Pub/Sub says have ended."""

        def call(some: Sequence[str]) -> None:
            request = _PAYLOADS["ack"](subscription=self._where.subscription, ack_ids=some)
            self._subscriber.acknowledge(request=types.AcknowledgeRequest.wrap(request), retry=RETRY, timeout=_TIMEOUT)

        with calling("acknowledging messages", self._project):
            return settle(call, ack_ids)

    def modify(self, ack_ids: Sequence[str], seconds: int) -> list[str]:
        """Let leases end so many seconds from now; otherwise as `acknowledge`."""

        def call(some: Sequence[str]) -> None:
            request = _PAYLOADS["modify"](
                subscription=self._where.subscription, ack_ids=some, ack_deadline_seconds=seconds
            )
            self._subscriber.modify_ack_deadline(
                request=types.ModifyAckDeadlineRequest.wrap(request), retry=RETRY, timeout=_TIMEOUT
            )

        with calling("extending leases", self._project):
            return settle(call, ack_ids)

    def close(self) -> None:
        self._channel.close()


def message(body: bytes, attributes: Mapping[str, str]) -> Any:
    """A message as it is sent."""
    return _PAYLOADS["message"](data=body, attributes=attributes)


def _method(channel: Any, name: str, request: Any, response: Any) -> Any:
    return channel.unary_unary(
        f"/google.pubsub.v1.Subscriber/{name}",
        request_serializer=request.SerializeToString,
        response_deserializer=response.FromString if response is not None else None,
    )
