"""What ``cloud-tasks setup aws`` makes in an account, and what it says when it cannot."""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Iterator
from typing import Any

import attrs
import hcl2
import pytest
from ec2_process import OverlayProcess

from cloud_tasks.errors import CloudTasksError
from cloud_tasks.plugin import AccountSetup, CheckContext, SetupItem, terraform_text
from cloud_tasks.registry import Registry
from cloud_tasks.testing import SetupContract, SetupSubject
from cloud_tasks_aws.policies import policies
from cloud_tasks_aws.session import client
from cloud_tasks_aws.settings import AwsSettings
from cloud_tasks_aws.setup import account

REGION = "us-east-1"
_numbers = itertools.count(210_000_000_001)


@attrs.frozen
class Site:
    """An account in which nothing is set up."""

    overlay: OverlayProcess
    number: str
    subject: SetupSubject

    @property
    def bucket(self) -> str:
        return f"cloud-tasks-{self.number}-{self.subject.region}"

    def enter(self, *, lag: int = 0) -> None:
        self.overlay.control("account", number=self.number, lag=lag)

    def client(self, service: str) -> Any:
        return client(self.subject.settings, service, self.subject.region)

    def plan(self, **settings: Any) -> AccountSetup:
        return attrs.evolve(self.subject, settings=attrs.evolve(self.subject.settings, **settings)).plan()

    def item(self, start: str, **settings: Any) -> SetupItem:
        (found,) = [each for each in self.plan(**settings).items if each.subject.startswith(start)]
        return found

    def make(self, **settings: Any) -> AccountSetup:
        plan = self.plan(**settings)
        for item in plan.items:
            if item.look():
                item.make()
        assert [each.subject for each in self.plan(**settings).items if each.look()] == []
        return plan

    def undo(self) -> dict[str, str]:
        """Return why items are kept, of those that can be removed."""
        items = [each for each in self.plan().items if each.subject.startswith(("role", "instance", "bucket"))]
        return {each.subject.split()[0]: kept for each in reversed(items) if (kept := each.remove())}


@pytest.fixture
def site(overlay: OverlayProcess, aws_settings: AwsSettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(account, "_PAUSE", 0.001)
    subject = SetupSubject(backend=Registry(only=["aws"]).compute("aws"), settings=aws_settings, region=REGION)
    site = Site(overlay, str(next(_numbers)), subject)
    site.enter()
    yield site
    overlay.control("account")


class TestSetupOfAws(SetupContract):
    @pytest.fixture
    def subject(self, site: Site) -> SetupSubject:
        return site.subject


class TestSetupOfAwsThatIsSeenLater(SetupContract):
    @pytest.fixture
    def subject(self, site: Site) -> SetupSubject:
        site.enter(lag=2)
        return site.subject


def test_setup_records_staging_and_instance_profile(site: Site) -> None:
    plan = site.plan()
    assert plan.account == f"account {site.number}"
    assert plan.identity == {"aws.profile": None}
    assert plan.settings["run.staging"] == f"s3://{site.bucket}/staging"
    assert plan.settings["aws.instance_profile"] == "cloud-tasks-worker"
