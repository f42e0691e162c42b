"""How instances end, and what is left to read of them."""

from __future__ import annotations

import pytest
from ec2_launches import RequestOf

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import InstanceState
from cloud_tasks.plugin import Compute
from cloud_tasks.testing import eventually


def test_power_off_ends_the_bill(compute: Compute, request_of: RequestOf, job: str) -> None:
    launched = compute.launch(request_of(startup_script="#!/bin/bash\nshutdown -h now\nsleep 600\n"))

    def ended() -> bool:
        states = {i.instance_id: i.state for i in compute.instances(job, include_terminated=True)}
        return states[launched.instance_id] is InstanceState.TERMINATED

    eventually(ended)


def test_ids_that_do_not_exist_keep_none_of_the_others_alive(compute: Compute, request_of: RequestOf, job: str) -> None:
    ids = [compute.launch(request_of()).instance_id for _ in range(3)]
    compute.terminate([ids[0], "i-0000000000000dead", ids[1], "not-an-id", "i-0000000000000beef", ids[2]])
    eventually(lambda: not any(each.is_alive for each in compute.instances(job)))


def test_a_termination_that_failed_is_told(impatient: Compute) -> None:
    with pytest.raises(ProviderError) as failed:
        impatient.terminate(["i-0123456789abcdef0"])
    assert failed.value.transient


def test_the_console_of_an_unknown_instance_is_empty(compute: Compute) -> None:
    assert compute.console_log("i-0000000000000dead") == ""
    assert compute.console_log("no-id") == ""
