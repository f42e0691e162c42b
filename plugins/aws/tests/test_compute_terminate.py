"""Termination of instances, and their console log."""

from __future__ import annotations

import pytest
from botocore.exceptions import EndpointConnectionError
from ec2_launches import RequestOf
from ec2_process import OverlayProcess

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import InstanceState
from cloud_tasks.plugin import Compute
from cloud_tasks.testing import eventually


def test_power_off_terminates_the_instance(compute: Compute, request_of: RequestOf, job: str) -> None:
    launched = compute.launch(request_of(startup_script="#!/bin/bash\nshutdown -h now\nsleep 600\n"))

    def terminated() -> bool:
        states = {i.instance_id: i.state for i in compute.instances(job, include_terminated=True)}
        return states[launched.instance_id] is InstanceState.TERMINATED

    eventually(terminated)


def test_terminate_ignores_unknown_ids(compute: Compute, request_of: RequestOf, job: str) -> None:
    ids = [compute.launch(request_of()).instance_id for _ in range(3)]
    compute.terminate([ids[0], "i-0000000000000dead", ids[1], "not-an-id", "i-0000000000000beef", ids[2]])
    eventually(lambda: not any(each.is_alive for each in compute.instances(job)))


@pytest.mark.parametrize("count", [1, 4])
def test_terminate_waits_for_a_new_instance_that_ec2_does_not_know_yet(
    overlay: OverlayProcess, compute: Compute, request_of: RequestOf, count: int
) -> None:
    launched = [compute.launch(request_of()).instance_id for _ in range(2)]
    overlay.control("hide-from-termination", count=count)
    compute.terminate(launched)
    eventually(lambda: not set(launched) & set(overlay.alive()))


def test_terminate_needs_no_listing(
    compute: Compute, request_of: RequestOf, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched = compute.launch(request_of())

    def unanswered(page: object) -> None:
        raise EndpointConnectionError(endpoint_url="https://ec2.invalid")

    with monkeypatch.context() as patched:
        patched.setattr("cloud_tasks_aws.compute.termination.instances_in", unanswered)
        compute.terminate([launched.instance_id])
    eventually(lambda: not any(each.is_alive for each in compute.instances(job)))


def test_terminate_raises_when_the_call_fails(unreachable: Compute) -> None:
    with pytest.raises(ProviderError) as failed:
        unreachable.terminate(["i-0123456789abcdef0"])
    assert failed.value.transient


def test_console_log_of_unknown_instance_is_empty(compute: Compute) -> None:
    assert compute.console_log("i-0000000000000dead") == ""
    assert compute.console_log("no-id") == ""
