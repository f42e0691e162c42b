"""Times and reasons in EC2's descriptions of instances."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from cloud_tasks.model import Instance
from cloud_tasks_aws.compute.to_model import to_instance

LAUNCHED = datetime(2026, 11, 30, 7, 0, 10, tzinfo=UTC)
MESSAGE = "Client.UserInitiatedShutdown: User initiated shutdown"


def converted(state: str, **more: Any) -> Instance:
    place = {"AvailabilityZone": "us-east-1a"}
    fields = {"InstanceId": "i-1", "InstanceType": "t3.medium", "LaunchTime": LAUNCHED, "Placement": place}
    return to_instance({**fields, "State": {"Name": state}, **more})


def test_instance_is_billed_since_its_launch() -> None:
    for state in ("pending", "running", "stopping", "terminated"):
        assert (converted(state).created_at, converted(state).started_at) == (LAUNCHED, LAUNCHED)


@pytest.mark.parametrize(
    ("transition", "ended_at"),
    [
        ("User initiated (2026-11-30 07:12:45 GMT)", datetime(2026, 11, 30, 7, 12, 45, tzinfo=UTC)),
        (
            "Server.SpotInstanceTermination: spot (2026-11-30 07:12:45 GMT)",
            datetime(2026, 11, 30, 7, 12, 45, tzinfo=UTC),
        ),
        ("User initiated (2026-11-30 07:00:09 GMT)", LAUNCHED),
        ("User initiated (2026-13-30 07:12:45 GMT)", None),
        ("User initiated shutdown", None),
        ("", None),
        (None, None),
    ],
)
def test_end_of_a_terminated_instance_is_in_its_transition(transition: str | None, ended_at: datetime | None) -> None:
    assert converted("terminated", StateTransitionReason=transition).ended_at == ended_at
    assert converted("stopped", StateTransitionReason=transition).ended_at is None


def test_reason_of_an_end_is_the_message() -> None:
    reason = {"Code": "Client.UserInitiatedShutdown", "Message": MESSAGE.replace(" User", "\nUser")}
    assert converted("terminated", StateReason=reason).reason == MESSAGE
    assert converted("stopping", StateReason={"Code": "Server.ScheduledStop"}).reason == "Server.ScheduledStop"
    assert converted("terminated").reason == ""
    assert converted("pending", StateReason={"Code": "pending", "Message": "pending"}).reason == ""
