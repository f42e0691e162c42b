"""Contract of what ``cloud-tasks setup`` makes in an account."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import pytest

from cloud_tasks.plugin import AccountSetup, ComputeBackend, NoSettings, SetupContext, terraform_text
from cloud_tasks.testing.contracts.contract import Contract

__all__ = ["SetupContract", "SetupSubject"]


@attrs.frozen(kw_only=True)
class SetupSubject:
    """A compute backend with an account of its own for each test, in which nothing is set up."""

    backend: ComputeBackend
    """Descriptor of the backend, found like an installed plugin: ``Registry(only=[\'name\'])``."""
    settings: Any = attrs.field(factory=NoSettings)
    """Settings of the backend."""
    region: str | None = None
    """The region, if there are several."""
    queue: str = ""
    """Name of the queue backend of jobs; empty for that of the provider."""

    def plan(self) -> AccountSetup:
        """Return the setup, as for a new call of the command."""
        assert self.backend.setup is not None, "the backend has no setup"
        context = SetupContext(region=self.region, queue=self.queue or self.backend.name)
        return self.backend.setup(self.settings, context)


def make_all(plan: AccountSetup) -> None:
    """Make what is missing, in order."""
    for item in plan.items:
        if item.look():
            item.make()


def problems(plan: AccountSetup) -> dict[str, str]:
    """Return what is missing, by subject."""
    return {item.subject: problem for item in plan.items if (problem := item.look())}


class SetupContract(Contract):
    """Items of a setup: see `cloud_tasks.plugin.SetupItem`."""

    def test_setup_has_items_of_different_subjects(self, subject: SetupSubject) -> None:
        items = subject.plan().items
        assert len({item.subject for item in items}) == len(items) > 0
        assert [item.subject for item in items if not item.purpose or item.purpose.endswith(".")] == []

    def test_setup_names_settings_of_jobs(self, subject: SetupSubject) -> None:
        plan = subject.plan()
        sections = {"run", subject.backend.name}
        assert {key for key in {**plan.identity, **plan.settings} if key.partition(".")[0] not in sections} == set()
        assert plan.settings
        assert plan.account

    def test_setup_makes_what_is_missing(self, subject: SetupSubject) -> None:
        assert problems(subject.plan())
        make_all(subject.plan())
        assert problems(subject.plan()) == {}

    def test_look_changes_nothing(self, subject: SetupSubject) -> None:
        first = problems(subject.plan())
        assert problems(subject.plan()) == first

    def test_setup_is_the_same_in_a_new_call(self, subject: SetupSubject) -> None:
        before = subject.plan()
        make_all(before)
        after = subject.plan()
        assert [item.subject for item in after.items] == [item.subject for item in before.items]
        assert (after.settings, after.identity) == (before.settings, before.identity)

    def test_items_that_exist_can_be_made_again(self, subject: SetupSubject) -> None:
        for _ in range(2):
            for item in subject.plan().items:
                item.make()
        assert problems(subject.plan()) == {}

    def test_setup_by_two_people_at_the_same_time_is_complete(self, subject: SetupSubject) -> None:
        with ThreadPoolExecutor() as pool:
            for made in [pool.submit(make_all, subject.plan()) for _ in range(2)]:
                made.result()
        assert problems(subject.plan()) == {}

    def test_removal_ends_what_was_made(self, subject: SetupSubject) -> None:
        fresh = problems(subject.plan())
        make_all(subject.plan())
        kept = {item.subject for item in reversed(subject.plan().items) if item.remove()}
        assert set(problems(subject.plan())) == set(fresh) - kept
        assert {item.subject for item in reversed(subject.plan().items) if item.remove()} == kept

    def test_setup_is_made_again_after_a_removal(self, subject: SetupSubject) -> None:
        for _ in range(2):
            make_all(subject.plan())
            assert problems(subject.plan()) == {}
            for item in reversed(subject.plan().items):
                item.remove()

    def test_removal_without_a_setup_does_nothing(self, subject: SetupSubject) -> None:
        for item in reversed(subject.plan().items):
            item.remove()
        assert problems(subject.plan())

    def test_commands_are_lines_of_a_posix_shell(self, subject: SetupSubject) -> None:
        script = "\n".join(line for item in subject.plan().items for line in item.commands)
        checked = subprocess.run(["sh", "-n"], input=script, text=True, capture_output=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")
        assert script

    def test_terraform_blocks_have_a_text(self, subject: SetupSubject) -> None:
        plan = subject.plan()
        blocks = [*plan.terraform, *(block for item in plan.items for block in item.terraform)]
        addresses = [(block.kind, block.labels) for block in blocks if block.labels]
        assert len(set(addresses)) == len(addresses)
        try:
            terraform_text(blocks)
        except ValueError as error:
            pytest.fail(str(error), pytrace=False)
