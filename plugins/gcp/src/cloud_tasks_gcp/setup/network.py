"""The item of the network of instances: looked for, and never made.

A project lacks it where an organization decided so; addresses, firewall rules and routes are then its administrator's.
"""

from __future__ import annotations

import shlex

from cloud_tasks.errors import InputError, NotFoundError
from cloud_tasks.plugin import SetupItem
from cloud_tasks_gcp.setup.account import Account, if_enabled, patiently

__all__ = ["network_item"]

CREATION = 30.0
"""Seconds in which Google makes the network after Compute Engine was enabled."""


def network_item(account: Account) -> SetupItem:
    """Return the item of the network ``default``."""
    project = shlex.quote(account.project)

    def read() -> None:
        account.compute(lambda rest: rest.get(f"compute/v1/{account.path}/global/networks/default"))

    def look() -> str:
        try:
            read()
        except NotFoundError:
            return "missing"
        return ""

    def make() -> None:
        try:
            patiently(lambda: patiently(read, NotFoundError, patience=CREATION))
        except NotFoundError as error:
            raise InputError(
                f"project {account.project} has no network default",
                hint=f"run: gcloud compute networks subnets list --project {project}, and set gcp.subnetwork; or run: "
                f"gcloud compute networks create default --subnet-mode auto --project {project}",
            ) from error

    return SetupItem(
        subject="network default",
        purpose="connects instances; it needs no firewall rule for them",
        look=if_enabled(look),
        make=make,
        remove=lambda: "Google or another person made it",
        commands=(f"gcloud compute networks describe default --project {project}",),
    )
