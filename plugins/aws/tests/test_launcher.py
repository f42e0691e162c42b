"""Outcome of a launch whose calls fail one after the other, against an EC2 client without a server."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from ec2_launches import offer, request_for

from cloud_tasks.errors import CredentialsError, LaunchRefusedError, ProviderError, RefusalScope
from cloud_tasks.model import LaunchRequest
from cloud_tasks_aws.compute.launcher import Launcher

ARGUMENTS = {"UserData": b"", "TagSpecifications": [{"ResourceType": "instance", "Tags": []}], "ClientToken": "token"}


STARTED = {"InstanceId": "i-1"}
LAUNCHED = {"Instances": [{**STARTED, "InstanceIds": ["i-1"]}], "FleetId": "fleet-1"}
"""Response to a launch, direct or by a fleet."""


class FailingEc2:
    """EC2 whose launches have these results, the last one for ever: an error, or a response; None: without a field."""

    def __init__(self, *results: Exception | dict[str, Any] | None) -> None:
        self._results = list(results)

    def run_instances(self, **arguments: Any) -> Any:
        result = self._results.pop(0) if len(self._results) > 1 else self._results[0]
        if isinstance(result, Exception):
            raise result
        return result or {}

    def describe_instances(self, **arguments: Any) -> Any:
        return {"Reservations": [{"Instances": [STARTED]}]}

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


def launcher_of(ec2: Any) -> Launcher:
    network: Any = SimpleNamespace(
        subnets_beside=lambda zone: {"us-east-1a": "subnet-a", "us-east-1b": "subnet-b"}, forget=lambda: None
    )
    return Launcher(ec2, ec2, network, lambda: None, own_groups=True)


def launch(request: LaunchRequest, ec2: Any, launcher: Launcher | None = None) -> ProviderError:
    """Return the error of a launch."""
    launcher = launcher or launcher_of(ec2)
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
    launcher = launcher_of(ec2)
    for _ in range(2):
        found = launch(request_, ec2, launcher)
        assert found.transient
        assert not isinstance(found, (LaunchRefusedError, CredentialsError))


def test_refusal_after_a_launch_that_cannot_be_described_leaves_the_outcome_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    denied = refusal("UnauthorizedOperation")

    def describe(self: FailingEc2, **arguments: Any) -> Any:
        raise denied

    monkeypatch.setattr(FailingEc2, "describe_instances", describe)
    ec2 = FailingEc2(LAUNCHED, denied)
    launcher = launcher_of(ec2)
    request = request_for("job", offer(), alternatives=(offer(zone="us-east-1b"),))
    for _ in range(2):
        assert not isinstance(launch(request, ec2, launcher), LaunchRefusedError)


@pytest.mark.parametrize("is_fleet", [False, True], ids=["direct", "fleet"])
@pytest.mark.parametrize("succeeds", [False, True])
def test_unknown_refusal_is_about_every_launch_unless_one_succeeded_in_between(is_fleet: bool, succeeds: bool) -> None:
    odd = refusal("OddCode")
    ec2 = FailingEc2(odd, odd, *([LAUNCHED] if succeeds else []), odd)
    launcher = launcher_of(ec2)

    def request_of(kind: str) -> LaunchRequest:
        return request_for("job", offer(kind), alternatives=(offer(kind, zone="us-east-1b"),) if is_fleet else ())

    refusals = [launch(request_of(kind), ec2, launcher) for kind in ("m5.large", "c5.large")]
    if succeeds:
        assert launcher.start(request_of("t3.medium"), ARGUMENTS)["InstanceId"] == "i-1"
    refusals.append(launch(request_of("r5.large"), ec2, launcher))
    scopes = [each.scope for each in refusals if isinstance(each, LaunchRefusedError)]
    last = RefusalScope.INSTANCE_TYPE if succeeds else RefusalScope.ACCOUNT
    assert scopes == [RefusalScope.INSTANCE_TYPE, RefusalScope.INSTANCE_TYPE, last]


@pytest.mark.parametrize(
    ("results", "is_open"),
    [
        ([LAUNCHED], False),
        ([refusal("UnauthorizedOperation")], False),
        ([None], True),
    ],
    ids=["launched", "refused", "unanswered"],
)
def test_outcome_is_kept_only_while_it_is_open(results: list[Any], is_open: bool) -> None:
    launcher = launcher_of(FailingEc2(*results))
    with suppress(ProviderError, LookupError):
        launcher.start(request_for("job", offer()), ARGUMENTS)
    assert bool(launcher._outcomes) is is_open
