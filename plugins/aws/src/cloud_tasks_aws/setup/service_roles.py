"""Roles by which EC2 itself manages spot instances and fleets. A caller of its API has to create them.

Sources: "Service-linked role for Spot Instance requests" and "Prerequisites for EC2 Fleet", EC2 user guide.
"""

from __future__ import annotations

from cloud_tasks.plugin import SetupItem, TerraformBlock
from cloud_tasks_aws.setup.account import Account, Call

__all__ = ["service_role_items"]

_ROLES = (
    ("spot", "AWSServiceRoleForEC2Spot", "spot.amazonaws.com", "EC2 needs it for spot instances"),
    (
        "fleet",
        "AWSServiceRoleForEC2Fleet",
        "ec2fleet.amazonaws.com",
        "EC2 needs it for launches from several types or zones",
    ),
)


def service_role_items(account: Account) -> tuple[SetupItem, ...]:
    """Return the roles, which are never removed: they belong to EC2."""
    return tuple(_item(account, *each) for each in _ROLES)


def _item(account: Account, label: str, name: str, service: str, purpose: str) -> SetupItem:
    created = Call("iam", "CreateServiceLinkedRole", AWSServiceName=service)

    get = Call("iam", "GetRole", RoleName=name)

    def look() -> str:
        return "" if account.find(get, "NoSuchEntity") else "missing"

    def make() -> None:
        # The code of a role that exists.
        account.make(created, "InvalidInput")
        account.settle(look)

    return SetupItem(
        subject=f"service-linked role {name}",
        purpose=purpose,
        look=look,
        make=make,
        commands=account.commands_unless(get, "role-exists", created),
        terraform=(
            TerraformBlock(
                kind="resource",
                labels=("aws_iam_service_linked_role", label),
                arguments={"aws_service_name": service},
            ),
        ),
    )
