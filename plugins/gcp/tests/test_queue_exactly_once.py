"""Answers of an exactly-once subscription, from a gRPC server in this process: the emulator has none."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.pubsub_v1 import types
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from cloud_tasks_gcp.queue.names import names
from cloud_tasks_gcp.queue.pubsub_client import PubsubClient, open_channel
from cloud_tasks_gcp.settings import GcpSettings


class ExactlyOnce(grpc.GenericRpcHandler):
    """Subscriber service for which the lease of every ack id has ended."""

    def __init__(self) -> None:
        self.calls = 0

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        return grpc.unary_unary_rpc_method_handler(self._answer)

    def _answer(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.calls += 1
        given = types.AcknowledgeRequest.deserialize(request)
        info = error_details_pb2.ErrorInfo(reason="EXACTLY_ONCE_ACKID_FAILURE", domain="pubsub.googleapis.com")
        for ack_id in given.ack_ids:
            info.metadata[ack_id] = "PERMANENT_FAILURE_INVALID_ACK_ID"
        message = "Some acknowledgement ids in the request were invalid."
        status = status_pb2.Status(code=grpc.StatusCode.INVALID_ARGUMENT.value[0], message=message)
        status.details.add().Pack(info)
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, message)


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[str, ExactlyOnce]]:
    handler = ExactlyOnce()
    server = grpc.server(ThreadPoolExecutor(2), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}", handler
    finally:
        server.stop(0).wait()


@pytest.mark.parametrize("count", [1, 45, 100, 2500])
def test_acknowledge_returns_any_number_of_ended_leases_after_one_call(
    service: tuple[str, ExactlyOnce], count: int
) -> None:
    address, handler = service
    client = PubsubClient(open_channel(GcpSettings(pubsub_endpoint=address)), names("p", "ct-", "q"), "p")
    ack_ids = [f"{number:0>176}" for number in range(count)]
    before = handler.calls
    try:
        assert client.acknowledge(ack_ids) == ack_ids
    finally:
        client.close()
    assert handler.calls - before == 1
