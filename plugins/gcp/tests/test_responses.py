"""Responses that are not Google's, over HTTP and gRPC: what every call of the plugin makes of them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any

import grpc
import pytest
from fake_server import Answer, FakeServer
from gce_requests import launch_request, offer
from google.api_core.retry import Retry
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_answers import STRANGE, OddServer

from cloud_tasks.errors import InputError, ProviderError
from cloud_tasks.model import Architecture
from cloud_tasks.plugin import ComputeContext
from cloud_tasks_gcp.compute.backend import open_compute
from cloud_tasks_gcp.pricing.catalog import fetch_rates
from cloud_tasks_gcp.queue import pubsub_client
from cloud_tasks_gcp.queue.names import names
from cloud_tasks_gcp.queue.pubsub_client import PubsubClient, QueueSpec, message
from cloud_tasks_gcp.rest import Rest
from cloud_tasks_gcp.settings import GcpSettings


@pytest.fixture(scope="module")
def odd() -> Iterator[OddServer]:
    server = OddServer()
    with server.serving():
        yield server


@pytest.fixture(scope="module")
def calls(odd: OddServer) -> Iterator[dict[str, Callable[[], object]]]:
    """What the plugin asks for over HTTP, by name."""
    settings = GcpSettings(project_id="p", compute_endpoint=odd.url, billing_endpoint=odd.url)
    with (
        open_compute(settings, ComputeContext(job_id="job", region="us-central1", zone=None)) as compute,
        Rest(settings, odd.url, service="monitoring.googleapis.com", attempts=1) as rest,
    ):
        compute.note_zones({"ct-one": "us-central1-a"})
        yield {
            "regions": compute.regions,
            "instance types": compute.instance_types,
            "instance types of a zone": lambda: compute._types_of_zone("us-central1-a"),
            "images": compute.images,
            "image": lambda: compute.find_image("own", Architecture.X86_64),
            "headroom": lambda: compute.headroom(offer()),
            "instances": lambda: compute.instances("job"),
            "terminate": lambda: compute.terminate(["ct-one"]),
            "terminate what is nowhere": lambda: compute.terminate(["ct-two"]),
            "console log": lambda: compute.console_log("ct-one"),
            "launch": lambda: compute.launch(launch_request()),
            "prices": lambda: fetch_rates(settings, attempts=1),
            "depth": lambda: rest.get("v3/projects/p/timeSeries"),
        }


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat a call over HTTP at once."""
    monkeypatch.setattr("google.api_core.retry.retry_unary.time.sleep", lambda seconds: None)


@pytest.mark.parametrize("body", STRANGE)
def test_every_call_reports_a_proxy_with_its_host(
    odd: OddServer, calls: dict[str, Callable[[], object]], body: str
) -> None:
    odd.body = STRANGE[body]
    for (name, call), odd.status in itertools.product(calls.items(), (200, 302, 403)):
        with pytest.raises(ProviderError, match=f"{odd.host}: .*; check for a proxy") as caught:
            call()
        assert caught.value.transient, name
        assert "\n" not in str(caught.value), name


@pytest.mark.parametrize("body", [b"{}", b"", b'{"kind": []}', b'{"items": [1]}', b'{"error": {}}'])
def test_response_without_fields_is_no_success_and_no_empty_listing(
    odd: OddServer, calls: dict[str, Callable[[], object]], body: bytes
) -> None:
    odd.status, odd.body = 200, body
    for name in calls.keys() - {"depth"}:
        with pytest.raises(ProviderError) as caught:
            calls[name]()
        assert caught.value.transient, name


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["kind", "items", "error", "name", "id"]), inner, max_size=3)
    ),
)


@given(
    name=st.sampled_from(["regions", "image", "headroom", "instances", "console log"]),
    status=st.sampled_from([200, 204, 302, 400, 403, 404, 407]),
    body=st.binary(max_size=99) | _JSON.map(lambda value: json.dumps(value).encode()),
)
@settings(max_examples=100, deadline=None)
def test_response_is_no_other_exception(
    odd: OddServer, calls: dict[str, Callable[[], object]], name: str, status: int, body: bytes
) -> None:
    odd.status, odd.body = status, body
    with suppress(ProviderError, InputError):
        calls[name]()


@pytest.mark.parametrize("body", [b"[]", b'[{"error": "blocked"}]', b'"blocked"', b"7"])
def test_server_error_that_is_no_object_is_reported(
    odd: OddServer, calls: dict[str, Callable[[], object]], body: bytes
) -> None:
    odd.status, odd.body = 502, body
    with pytest.raises(ProviderError, match="not a JSON object"):
        calls["regions"]()


# Pub/Sub


class _Answers(grpc.GenericRpcHandler):
    """The same bytes for every call."""

    body = b""

    def service(self, handler_call_details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self.body)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[_Answers, PubsubClient]]:
    """A gRPC server, and a client of it that repeats no call."""
    monkeypatch.setattr(pubsub_client, "RETRY", Retry(predicate=lambda error: False))
    handler = _Answers()
    server = grpc.server(ThreadPoolExecutor(2), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    client = PubsubClient(grpc.insecure_channel(f"127.0.0.1:{port}"), names("p", "", "tasks"), "p")
    yield handler, client
    client.close()
    server.stop(None)


def test_pubsub_answer_that_cannot_be_read_is_transient(answers: tuple[_Answers, PubsubClient]) -> None:
    handler, client = answers
    spec = QueueSpec(ack_deadline=60, retention=timedelta(days=1), labels={})
    for handler.body in STRANGE.values():
        for call in (
            client.exists,
            lambda: client.create(spec),
            lambda: client.publish([message(b"a", {})]),
            lambda: client.acknowledge(["a"]),
            lambda: client.modify(["a"], 10),
            client.delete,
        ):
            with suppress(ProviderError):
                call()
    handler.body = STRANGE["web page"]
    with pytest.raises(ProviderError) as caught:
        client.exists()
    assert caught.value.transient


def test_pubsub_behind_another_server_is_transient(odd: OddServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pubsub_client, "RETRY", Retry(predicate=lambda error: False))
    odd.body = STRANGE["web page"]
    client = PubsubClient(grpc.insecure_channel(odd.host), names("p", "", "tasks"), "p")
    with pytest.raises(ProviderError) as caught:
        client.exists()
    client.close()
    assert caught.value.transient


def test_rest_accepts_no_content_after_a_deletion_only() -> None:
    with FakeServer().serving() as server:
        server.route("*", ".*", lambda request: Answer(status=204))
        with Rest(GcpSettings(project_id="p"), server.url, service="storage.googleapis.com", attempts=1) as rest:
            assert rest.delete("storage/v1/b/x") == {}
            with pytest.raises(ProviderError, match="invalid response"):
                rest.get("storage/v1/b/x")
