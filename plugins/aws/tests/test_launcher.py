"""Outcome of a launch whose calls fail one after the other, against an EC2 client without a server."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from ec2_launches import offer, request_for

from cloud_tasks.errors import CredentialsError, LaunchRefusedError, ProviderError, RefusalScope
from cloud_tasks.model import LaunchRequest
from cloud_tasks_aws.compute.launcher import Launcher

ARGUMENTS = {"UserData": b"", "TagSpecifications": [{"Tags": []}], "ClientToken": "token"}


class FailingEc2:
    """EC2 whose launches fail with these errors, the last one for ever; None: a response without a field."""

    def __init__(self, *errors: Exception | None) -> None:
        self._errors = list(errors)

    def run_instances(self, **arguments: Any) -> Any:
        error = self._errors.pop(0) if len(self._errors) > 1 else self._errors[0]
        if error is None:
            return {}
        raise error

    create_fleet = run_instances

    def create_launch_template(self, **arguments: Any) -> None:
        pass

    delete_launch_template = create_launch_template


def refusal(code: str, *, status: int = 400) -> ClientError:
    response: Any = {"Error": {"Code": code, "Message": "injected"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "RunInstances")


@pytest.fixture(params=["direct", "fleet"])
def request_(request: pytest.FixtureRequest) -> LaunchRequest:
    others = (offer(zone="us-east-1b"),) if request.param == "fleet" else ()
    return request_for("job", offer(), alternatives=others)


def launch(request: LaunchRequest, ec2: Any, launcher: Launcher | None = None) -> ProviderError:
    """Return the error of a launch."""
    network: Any = SimpleNamespace(
        subnets_beside=lambda zone: {"us-east-1a": "subnet-a", "us-east-1b": "subnet-b"}, forget=lambda: None
    )
    launcher = launcher or Launcher(ec2, ec2, network, lambda: None, own_groups=True)
    with pytest.raises(ProviderError) as raised:
        launcher.start(request, ARGUMENTS)
    return raised.value


def test_throttled_launch_is_refused_since_it_started_nothing(request_: LaunchRequest) -> None:
    found = launch(request_, FailingEc2(refusal("RequestLimitExceeded", status=503)))
    assert isinstance(found, LaunchRefusedError)
    assert (found.scope, found.retry_after) == (RefusalScope.ACCOUNT, timedelta(minutes=1))
    assert not found.needs_action


@pytest.mark.parametrize(
    "lost",
    [ReadTimeoutError(endpoint_url="https://ec2"), refusal("InternalError", status=500), None],
    ids=["lost", "broken", "empty"],
)
@pytest.mark.parametrize(
    "code", ["RequestLimitExceeded", "UnauthorizedOperation", "RequestExpired", "Blocked", "MaxFleetCountExceeded"]
)
def test_refusal_after_a_launch_without_an_answer_leaves_the_outcome_open(
    request_: LaunchRequest, lost: Exception | None, code: str
) -> None:
    # EC2 refuses so before it looks at the client token.
    found = launch(request_, FailingEc2(lost, refusal(code)))
    assert found.transient
    assert not isinstance(found, (LaunchRefusedError, CredentialsError))


def test_capacity_after_a_launch_without_an_answer_is_a_refusal() -> None:
    # For a client token that has started an instance, EC2 returns it.
    lost = ReadTimeoutError(endpoint_url="https://ec2")
    found = launch(request_for("job", offer()), FailingEc2(lost, refusal("InsufficientInstanceCapacity", status=500)))
    assert isinstance(found, LaunchRefusedError)


@pytest.mark.parametrize(
    "errors",
    [[*[refusal("InternalError", status=500)] * 6, refusal("RequestLimitExceeded")], [None, refusal("RequestExpired")]],
    ids=["broken", "empty"],
)
def test_unanswered_launch_is_remembered_when_core_repeats_it(
    request_: LaunchRequest, errors: list[Exception | None]
) -> None:
    ec2 = FailingEc2(*errors)
    network: Any = SimpleNamespace(subnets_beside=lambda zone: {"us-east-1a": "a", "us-east-1b": "b"})
    launcher = Launcher(ec2, ec2, network, lambda: None, own_groups=True)
    for _ in range(2):
        found = launch(request_, ec2, launcher)
        assert found.transient
        assert not isinstance(found, (LaunchRefusedError, CredentialsError))
