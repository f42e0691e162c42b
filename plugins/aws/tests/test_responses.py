"""Responses that are not AWS's: what botocore makes of them, and what every call of the plugin makes of that."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from ec2_launches import offer, request_for
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_answers import STRANGE, OddServer

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import Architecture
from cloud_tasks.plugin import ComputeContext, LocationContext, QueueContext
from cloud_tasks_aws.compute.backend import open_compute
from cloud_tasks_aws.compute.large_scripts import LargeScripts
from cloud_tasks_aws.pricing.price_list import fetch_list_prices
from cloud_tasks_aws.pricing.spot_history import fetch_spot_prices
from cloud_tasks_aws.queue.body_store import S3BodyStore
from cloud_tasks_aws.queue.named_queue import NamedQueue
from cloud_tasks_aws.queue.sqs_queue import SqsQueue
from cloud_tasks_aws.responses import InvalidResponseError
from cloud_tasks_aws.session import client, locate_queue, session
from cloud_tasks_aws.settings import AwsSettings

REGION = "us-east-1"
KEYS: dict[str, Any] = {"access_key": "AKIDEXAMPLE", "secret_key": "secret"}
CALLED = {
    "ec2": "create_fleet create_launch_template create_security_group delete_launch_template describe_instances "
    "describe_regions get_console_output run_instances terminate_instances",
    "iam": "get_instance_profile",
    "pricing": "describe_services get_products",
    "s3": "delete_object delete_objects get_object head_bucket list_objects_v2 put_object",
    "service-quotas": "get_service_quota",
    "sqs": "change_message_visibility_batch create_queue delete_message_batch delete_queue get_queue_attributes "
    "get_queue_url list_queue_tags purge_queue receive_message send_message_batch tag_queue",
    "ssm": "get_parameter",
    "sts": "assume_role get_caller_identity",
}
"""Calls by service, those that get credentials included."""


_BUCKET = {"Bucket": "bucket"}
_OBJECT = {**_BUCKET, "Key": "key"}


class Stub:
    """Every service, with one response for all calls."""

    def __init__(self) -> None:
        self.status = 200
        self.body = b""
        config = Config(parameter_validation=False, retries={"total_max_attempts": 1})
        opened: Any = session(AwsSettings(**KEYS), REGION)
        self.calls: dict[str, Callable[[], Any]] = {}
        for service, names in CALLED.items():
            made = opened.client(service, config=config)
            made.meta.events.register("before-send", self._respond)
            for name in names.split():
                given = _OBJECT if name.endswith("_object") else _BUCKET if service == "s3" else {}
                self.calls[f"{service}:{name}"] = functools.partial(getattr(made, name), **given)

    def _respond(self, request: Any, **_: Any) -> AWSResponse:
        raw: Any = SimpleNamespace(stream=lambda *_, **__: iter([self.body]))
        return AWSResponse(request.url, self.status, HTTPHeaders(), raw)


@pytest.fixture(scope="module")
def stub() -> Stub:
    return Stub()


def test_responses_of_strangers_are_errors_with_the_host(stub: Stub) -> None:
    stub.status = 200
    for call, name in itertools.product(stub.calls, STRANGE):
        stub.body = STRANGE[name]
        if call in ("s3:get_object", "s3:head_bucket"):  # whose body is streamed, or empty
            continue
        with pytest.raises(InvalidResponseError, match=r"invalid response from [a-z0-9.-]+\.amazonaws\.com: "):
            stub.calls[call]()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
)


@given(
    call=st.sampled_from([f"{service}:{name}" for service, names in CALLED.items() for name in names.split()]),
    status=st.sampled_from([200, 204, 301, 302, 400, 403, 407, 500, 503]),
    body=st.sampled_from(list(STRANGE.values())) | st.binary(max_size=99) | _JSON.map(lambda v: json.dumps(v).encode()),
)
@settings(max_examples=200, deadline=None)
def test_response_is_a_mapping_or_an_error_of_botocore(stub: Stub, call: str, status: int, body: bytes) -> None:
    stub.status, stub.body = status, body
    try:
        found = stub.calls[call]()
    except (BotoCoreError, ClientError):
        return
    assert isinstance(found, Mapping)


@pytest.mark.parametrize("body", [b"", b"{}", b"no", b'{"message": "no"}'])
def test_error_without_a_code_is_none_of_aws(stub: Stub, body: bytes) -> None:
    stub.body = body
    for stub.status in (302, 403, 407):
        with pytest.raises(InvalidResponseError, match="from sqs"):
            stub.calls["sqs:get_queue_url"]()
    stub.status, stub.body = 403, b"<Response/>"
    with pytest.raises(InvalidResponseError, match="from ec2"):
        stub.calls["ec2:describe_regions"]()


def test_error_with_a_code_is_one_of_aws(stub: Stub) -> None:
    stub.status, stub.body = 400, b'{"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "no"}'
    with pytest.raises(ClientError, match="QueueDoesNotExist"):
        stub.calls["sqs:get_queue_url"]()
    stub.status, stub.body = 403, b""
    with pytest.raises(ClientError, match="403"):
        stub.calls["s3:head_bucket"]()


# Calls of the plugin


@pytest.fixture(scope="module")
def odd() -> Iterator[OddServer]:
    server = OddServer()
    with server.serving():
        yield server


@pytest.fixture(scope="module")
def plugin_calls(odd: OddServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Callable[[], object]]]:
    """What the plugin asks for, by name."""
    settings = AwsSettings(endpoint_url=odd.url, instance_profile="workers", **KEYS)
    sqs, s3 = (client(settings, service, REGION) for service in ("sqs", "s3"))
    context = QueueContext(job_id="job", name="tasks", lease=timedelta(minutes=1), region=REGION)
    new, known = NamedQueue(sqs, "", context), NamedQueue(sqs, "", context)
    known._url = f"{odd.url}/1/tasks"
    queue = SqsQueue(sqs, known, lease=context.lease, threads=1, min_poll=timedelta(0), purge_time=timedelta(0))
    store, scripts = S3BodyStore(s3, "s3://bucket/x", "tasks"), LargeScripts(lambda _: s3, "s3://bucket/x")
    pricing, ec2 = (client(settings, service, REGION) for service in ("pricing", "ec2"))
    place = ComputeContext(job_id="job", region=REGION, cache_dir=tmp_path_factory.mktemp("cache"))
    with open_compute(settings, place) as opened:
        compute: Any = opened
        yield {
            "create the queue": new.create,
            "find the queue": new.exists,
            "look at the queue": known.exists,
            "delete the queue": known.delete,
            "purge": queue.purge,
            "depth": queue.depth,
            "receive": lambda: queue.receive(1, wait=timedelta(0)),
            "put": lambda: store.put("name", b"body"),
            "get": lambda: store.get("name"),
            "names": store.names,
            "store a script": lambda: scripts.loader("script"),
            "regions": compute.regions,
            "instance types": compute.instance_types,
            "images": compute.images,
            "default image": lambda: compute.find_image(None, Architecture.X86_64),
            "image": lambda: compute.find_image("ami-12345678", Architecture.X86_64),
            "headroom": lambda: compute.headroom(offer()),
            "launch": lambda: compute.launch(request_for("job", offer())),
            "instances": lambda: compute.instances("job"),
            "terminate": lambda: compute.terminate(["i-12345678"]),
            "console log": lambda: compute.console_log("i-12345678"),
            "prices": lambda: fetch_list_prices(pricing, REGION),
            "spot prices": lambda: fetch_spot_prices(ec2, REGION),
        }


@pytest.mark.parametrize("body", ["list", "null", "web page"])
def test_every_call_reports_a_proxy_with_its_host(
    odd: OddServer, plugin_calls: dict[str, Callable[[], object]], body: str
) -> None:
    odd.body = STRANGE[body]
    for name, call in plugin_calls.items():
        with pytest.raises(ProviderError, match=f"{odd.host}: .*; check for a proxy") as caught:
            call()
        assert caught.value.transient, name
        assert "\n" not in str(caught.value), name


@pytest.mark.parametrize("body", [b"", b"{}", b"<R/>"])
def test_response_without_fields_is_no_success_and_no_empty_listing(
    odd: OddServer, plugin_calls: dict[str, Callable[[], object]], body: bytes
) -> None:
    odd.body = body
    for name in (
        "create the queue",
        "depth",
        "put",
        "get",
        "names",
        "store a script",
        "regions",
        "instance types",
        "images",
        "launch",
        "instances",
        "terminate",
    ):
        with pytest.raises(ProviderError) as caught:
            plugin_calls[name]()
        assert caught.value.transient, name


def test_location_lacks_an_account_that_cannot_be_read(odd: OddServer) -> None:
    odd.body = b"null"
    context = LocationContext(region=REGION, zone=None)
    assert locate_queue(AwsSettings(endpoint_url=odd.url, **KEYS), context) == {"region": REGION}
