"""Failures of single ack ids, as an exactly-once subscription and others report them, from a gRPC server in this
process: the emulator reports none."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.pubsub_v1 import types
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from cloud_tasks.errors import ProviderError
from cloud_tasks_gcp.queue.names import names
from cloud_tasks_gcp.queue.pubsub_client import PubsubClient, open_channel
from cloud_tasks_gcp.settings import GcpSettings


class Subscription(grpc.GenericRpcHandler):
    """Subscriber service that refuses ack ids by their first word."""

    def __init__(self) -> None:
        self.accepted: list[list[str]] = []
        self.calls = 0

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        is_ack = handler_call_details.method.endswith("/Acknowledge")
        kind: Any = types.AcknowledgeRequest if is_ack else types.ModifyAckDeadlineRequest
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self._answer(list(kind.deserialize(request).ack_ids), context)
        )

    def _answer(self, ack_ids: list[str], context: grpc.ServicerContext) -> bytes:
        self.calls += 1
        words = {each.partition("-")[0] for each in ack_ids}
        if "forbidden" in words:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "User not authorized")
        if "strange" in words:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "You have passed an invalid ack ID to the service.")
        self.accepted.append([each for each in ack_ids if each.startswith("fine")])
        failures = {"ended": "PERMANENT_FAILURE_INVALID_ACK_ID", "busy": "TRANSIENT_FAILURE_UNORDERED_ACK_ID"}
        info = error_details_pb2.ErrorInfo(reason="EXACTLY_ONCE_ACKID_FAILURE", domain="pubsub.googleapis.com")
        for each in ack_ids:
            if each.partition("-")[0] in failures:
                info.metadata[each] = failures[each.partition("-")[0]]
        if info.metadata:
            message = "Some acknowledgement ids in the request were invalid."
            status = status_pb2.Status(code=grpc.StatusCode.INVALID_ARGUMENT.value[0], message=message)
            status.details.add().Pack(info)
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, message)
        return b""


@pytest.fixture(scope="module")
def serving() -> Iterator[tuple[Subscription, PubsubClient]]:
    subscription = Subscription()
    server = grpc.server(ThreadPoolExecutor(2), handlers=[subscription])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    channel = open_channel(GcpSettings(pubsub_endpoint=f"127.0.0.1:{port}"))
    client = PubsubClient(channel, names("p", "ct-", "q"), "p")
    try:
        yield subscription, client
    finally:
        client.close()
        server.stop(0).wait()


@pytest.fixture
def service(serving: tuple[Subscription, PubsubClient]) -> Subscription:
    subscription, _ = serving
    subscription.accepted, subscription.calls = [], 0
    return subscription


@pytest.fixture
def client(serving: tuple[Subscription, PubsubClient]) -> PubsubClient:
    return serving[1]


@pytest.mark.parametrize("count", [1, 45, 100, 2500])
def test_acknowledge_returns_any_number_of_ended_leases_after_one_call(
    service: Subscription, client: PubsubClient, count: int
) -> None:
    refused = client.acknowledge([f"ended-{number:0>170}" for number in range(count)])
    assert sorted(refused) == list(range(count))
    assert not any(why.transient for why in refused.values())
    assert service.calls == 1


@pytest.mark.parametrize("change", [PubsubClient.acknowledge, lambda client, ids: client.modify(ids, 60)])
def test_change_of_leases_returns_the_failure_of_each_ack_id(
    service: Subscription, client: PubsubClient, change: Any
) -> None:
    refused = change(client, ["fine-1", "ended-1", "busy-1"])
    assert {index: why.transient for index, why in refused.items()} == {1: False, 2: True}


def test_acknowledge_isolates_invalid_id_of_refused_call(service: Subscription, client: PubsubClient) -> None:
    refused = client.acknowledge(["fine-1", "fine-2", "strange-1", "fine-3", "fine-4"])
    assert {index: why.transient for index, why in refused.items()} == {2: False}
    assert sorted(each for ack_ids in service.accepted for each in ack_ids) == [f"fine-{n}" for n in range(1, 5)]


def test_acknowledge_raises_other_errors(service: Subscription, client: PubsubClient) -> None:
    with pytest.raises(ProviderError, match="acknowledging messages: a permission is missing") as failed:
        client.acknowledge(["fine-1", "forbidden-1"])
    assert not failed.value.transient
    assert service.calls == 1
