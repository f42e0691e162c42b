"""What an account needs for a first job, as items that ``cloud-tasks setup`` looks for, makes and removes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from cloud_tasks.plugin.terraform import TerraformBlock

__all__ = ["AccountSetup", "SetupContext", "SetupItem"]


def _nothing_to_remove() -> str:
    return "no cost, and other programs may need it"


@attrs.frozen(kw_only=True)
class SetupContext:
    """Parameters of `ComputeBackend.setup`."""

    region: str | None = None
    """The region of buckets and other regional items, if given."""
    queue: str = ""
    """Name of the queue backend of later jobs: that of the provider, unless another one is configured."""


@attrs.frozen(kw_only=True)
class SetupItem:
    """One thing that a first job needs. Its functions are called in the order of the items, `remove` in reverse.

    They raise `CloudTasksError` with a remedy; a missing permission names the permission.
    """

    subject: str
    """What it is, with its name: ``bucket cloud-tasks-my-project``; unique within the setup."""
    purpose: str
    """What it is for, in a few words without a period: ``files for instances, deleted after two weeks``."""
    look: Callable[[], str]
    """Return what is missing, in a few words: ``missing``, ``objects are kept``; empty if it is as needed. Changes
    nothing. It finds also what others made under its name."""
    make: Callable[[], None]
    """Make or correct it. Idempotent, also when it was made a moment ago or is being made; returns when the items after
    it can be made. Raises if its name belongs to another account, or if a person has to decide."""
    remove: Callable[[], str] = _nothing_to_remove
    """Remove it if `make` made it (its label says so) and it is empty. Idempotent. Return why it is kept, in a few
    words; empty if it is gone."""
    commands: tuple[str, ...]
    """Lines of shell that do the same as `make`, with the provider's own command-line program."""
    terraform: tuple[TerraformBlock, ...] = ()
    """Terraform blocks that do the same; empty where Terraform has no resource for it."""


@attrs.frozen(kw_only=True)
class AccountSetup:
    """Everything that `ComputeBackend.setup` makes in one account."""

    account: str
    """The account in a few words: ``project my-project``."""
    identity: Mapping[str, Any]
    """Settings that choose the account, by dotted key: ``{"gcp.project_id": "my-project"}``. Jobs with another value
    do not use ``settings``."""
    settings: Mapping[str, Any]
    """Settings with which jobs use the items, by dotted key: ``run.staging``, ``gcp.service_account``. Where neither
    configuration nor options set them, jobs have these values."""
    items: tuple[SetupItem, ...]
    """The items, each after those that it needs."""
    terraform: tuple[TerraformBlock, ...] = ()
    """Blocks before those of the items: required providers, data sources."""
