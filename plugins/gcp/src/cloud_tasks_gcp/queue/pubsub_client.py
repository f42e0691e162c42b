"""Pub/Sub client of a queue, over one connection.

Pulls bypass the generated client, which cannot start a call and collect its response later.

Invariants, each with a test:

1. A message or ack id refused by Pub/Sub does not affect others: a refused request is halved until the invalid one is
   alone.
2. A queue exists only if topic and subscription belong together; a subscription that outlived its topic is recreated.
3. A topic that is not found right after its creation is waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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

from cloud_tasks.plugin.kit import Refused
from cloud_tasks_gcp.credentials import credentials, is_emulator
from cloud_tasks_gcp.queue.names import Names
from cloud_tasks_gcp.queue.pubsub_errors import RETRY, ack_failures, is_transient, to_provider_error, translate_errors
from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["PubsubClient", "QueueSpec", "message", "open_channel"]

_TIMEOUT = 30.0
"""Time limit of one attempt of a call other than a pull, in seconds."""
_LONG_PULL = 15.0
"""Duration of a pull in seconds. A longer one saves calls; but until it ends, messages may be sent to a terminated
instance."""
_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_metadata_size", 4 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 30_000),
)
"""Options of Google's own clients. An exactly-once subscription reports the failure of each ack id in the trailing
metadata, which gRPC limits to 16 KiB by default."""
_PAYLOADS: dict[str, Any] = {
    "message": types.PubsubMessage.pb(),
    "publish": types.PublishRequest.pb(),
    "pull": types.PullRequest.pb(),
    "pulled": types.PullResponse.pb(),
    "ack": types.AcknowledgeRequest.pb(),
    "modify": types.ModifyAckDeadlineRequest.pb(),
}


@attrs.frozen(kw_only=True)
class QueueSpec:
    """Properties of a new queue."""

    ack_deadline: int
    """Ack deadline in seconds: the first lease of a pulled message."""
    retention: timedelta
    labels: Mapping[str, str]
    exactly_once: bool = False


def open_channel(settings: GcpSettings) -> Any:
    """Create a connection to Pub/Sub or to the emulator of the settings, without any call."""
    endpoint = settings.pubsub_endpoint
    own = credentials(settings, endpoint=endpoint or None)
    host = endpoint.removeprefix("https://").removeprefix("http://").rstrip("/")
    if is_emulator(endpoint):
        return grpc.insecure_channel(host, options=_OPTIONS)
    address = (host or "pubsub.googleapis.com") if ":" in host else f"{host or 'pubsub.googleapis.com'}:443"
    return SubscriberGrpcTransport.create_channel(address, credentials=own, options=_OPTIONS)


class PubsubClient:
    """Calls to Pub/Sub for one queue. Thread-safe.

    Args:
        channel: Connection from `open_channel`, closed with this object.
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
        route: Any = routing_header.to_grpc_metadata  # google.api_core is partly typed
        self._metadata = (route((("subscription", where.subscription),)),)

    # Lifecycle

    def create(self, spec: QueueSpec) -> None:
        """Create topic and subscription; do nothing when both exist and belong together."""
        with translate_errors("creating the queue", self._project):
            with suppress(api.AlreadyExists):
                self._publisher.create_topic(
                    request={"name": self._where.topic, "labels": dict(spec.labels)}, retry=RETRY, timeout=_TIMEOUT
                )
            try:
                self._create_subscription(spec)
            except api.AlreadyExists:
                if self._is_attached(self._get()):
                    return
                # It outlived its topic and would receive none of the new topic's messages.
                self._delete_subscription()
                self._create_subscription(spec)

    def delete(self) -> None:
        """Delete both, the topic first: a topic without subscription drops the messages sent to it."""
        with translate_errors("deleting the queue", self._project):
            with suppress(api.NotFound):
                self._publisher.delete_topic(request={"topic": self._where.topic}, retry=RETRY, timeout=_TIMEOUT)
            self._delete_subscription()

    def exists(self) -> bool:
        """Return whether both subscription and topic exist."""
        with translate_errors("checking the queue", self._project):
            try:
                return self._is_attached(self._get())
            except api.NotFound:
                return False

    def check_exists(self) -> None:
        """Raise `NotFoundError` when the subscription does not exist."""
        with translate_errors("checking the queue", self._project):
            self._get()

    def seek_to_now(self) -> None:
        """Acknowledge all messages published before now, by the clock of this machine."""
        with translate_errors("purging the queue", self._project):
            self._subscriber.seek(
                request={"subscription": self._where.subscription, "time": datetime.now(UTC)},
                retry=RETRY,
                timeout=_TIMEOUT,
            )

    def _create_subscription(self, spec: QueueSpec) -> None:
        request: dict[str, Any] = {
            "name": self._where.subscription,
            "topic": self._where.topic,
            "ack_deadline_seconds": spec.ack_deadline,
            "message_retention_duration": spec.retention,
            "labels": dict(spec.labels),
            "enable_exactly_once_delivery": spec.exactly_once,
        }
        # The topic may have been created a moment ago, and is not found everywhere yet.
        retry: Any = RETRY.with_predicate(lambda error: is_transient(error) or isinstance(error, api.NotFound))
        self._subscriber.create_subscription(request=request, retry=retry, timeout=_TIMEOUT)

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

    def publish(self, messages: Sequence[Any]) -> dict[int, Refused]:
        """Publish messages that fit into one request; return the refused ones by index."""
        request = _PAYLOADS["publish"](topic=self._where.topic, messages=messages)

        def call() -> None:
            self._publisher.publish(request=types.PublishRequest.wrap(request), retry=RETRY, timeout=_TIMEOUT)

        return self._call("sending to the queue", call, messages, self.publish)

    def start_pull(self, count: int) -> Any:
        """Start a pull; return the call, a `grpc.Future` whose result has ``received_messages``."""
        request = _PAYLOADS["pull"](subscription=self._where.subscription, max_messages=count)
        return self._pull.future(request, timeout=_LONG_PULL, metadata=self._metadata)

    def start_release(self, ack_ids: Sequence[str]) -> None:
        """Release messages without waiting for the response; after a failure their lease expires."""
        request = _PAYLOADS["modify"](subscription=self._where.subscription, ack_ids=ack_ids, ack_deadline_seconds=0)
        call = self._modify.future(request, timeout=_TIMEOUT, metadata=self._metadata)
        # gRPC cancels a call without references.
        self._releases.add(call)
        call.add_done_callback(self._releases.discard)

    def acknowledge(self, ack_ids: Sequence[str]) -> dict[int, Refused]:
        """Acknowledge messages; return the ack ids that were refused by index, permanently if the lease had ended."""
        request = _PAYLOADS["ack"](subscription=self._where.subscription, ack_ids=ack_ids)

        def call() -> None:
            self._subscriber.acknowledge(request=types.AcknowledgeRequest.wrap(request), retry=RETRY, timeout=_TIMEOUT)

        return self._call("acknowledging messages", call, ack_ids, self.acknowledge)

    def modify(self, ack_ids: Sequence[str], seconds: int) -> dict[int, Refused]:
        """Set the end of the leases to ``seconds`` from now; otherwise like `acknowledge`."""
        request = _PAYLOADS["modify"](
            subscription=self._where.subscription, ack_ids=ack_ids, ack_deadline_seconds=seconds
        )

        def call() -> None:
            self._subscriber.modify_ack_deadline(
                request=types.ModifyAckDeadlineRequest.wrap(request), retry=RETRY, timeout=_TIMEOUT
            )

        return self._call("extending leases", call, ack_ids, lambda some: self.modify(some, seconds))

    def _call(
        self,
        doing: str,
        call: Callable[[], None],
        items: Sequence[Any],
        again: Callable[[Sequence[Any]], dict[int, Refused]],
    ) -> dict[int, Refused]:
        """Make a call for items, each of which may be refused.

        Exactly-once subscriptions report the failure of each ack id ("Exactly-once delivery"); others refuse a whole
        call for one invalid item, so that it is repeated with each half of the items.
        """
        with translate_errors(doing, self._project):
            try:
                call()
            except api.GoogleAPICallError as error:
                failures = ack_failures(error)
                if failures is not None:
                    return {
                        index: Refused(failures[item], transient=failures[item].startswith("TRANSIENT_"))
                        for index, item in enumerate(items)
                        if item in failures
                    }
                if not isinstance(error, api.InvalidArgument):
                    raise
                if len(items) == 1:
                    return {0: Refused(str(to_provider_error(doing, error, self._project)), transient=False)}
                middle = len(items) // 2
                later = again(items[middle:])
                return again(items[:middle]) | {middle + index: why for index, why in later.items()}
        return {}

    def close(self) -> None:
        self._channel.close()


def message(body: bytes, attributes: Mapping[str, str]) -> Any:
    """Return a message in the form that `publish` takes."""
    return _PAYLOADS["message"](data=body, attributes=attributes)


def _method(channel: Any, name: str, request: Any, response: Any) -> Any:
    return channel.unary_unary(
        f"/google.pubsub.v1.Subscriber/{name}",
        request_serializer=request.SerializeToString,
        response_deserializer=response.FromString if response is not None else None,
    )
