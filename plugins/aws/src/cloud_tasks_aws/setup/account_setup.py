"""The items of ``cloud-tasks setup aws``, and the settings with which jobs use them."""

from __future__ import annotations

from collections.abc import Iterator

from cloud_tasks.plugin import AccountSetup, SetupContext, SetupItem, TerraformBlock
from cloud_tasks_aws.errors import translate_errors
from cloud_tasks_aws.session import client, partition_of, region_for
from cloud_tasks_aws.settings import AwsSettings
from cloud_tasks_aws.setup.account import Account
from cloud_tasks_aws.setup.bucket import bucket_item
from cloud_tasks_aws.setup.network import network_item
from cloud_tasks_aws.setup.roles import NAME, profile_item, role_item
from cloud_tasks_aws.setup.service_roles import service_role_items

__all__ = ["account_setup"]


def account_setup(settings: AwsSettings, context: SetupContext) -> AccountSetup:
    """Implement `ComputeBackend.setup`. The account is that of the credentials, by STS."""
    region = region_for(settings, context.region)
    with translate_errors("getting the caller identity"):
        number = str(client(settings, "sts", region, attempts=3).get_caller_identity()["Account"])
    account = Account(settings=settings, number=number, region=region, partition=partition_of(region))
    bucket, staging = bucket_item(account)
    found = {"run.staging": staging}
    if uses_role := _uses_role(settings, context):
        found["aws.instance_profile"] = NAME
    return AccountSetup(
        account=f"account {number}",
        identity={"aws.profile": settings.profile},
        settings=found,
        items=(*_items(account, staging, uses_role=uses_role), bucket),
        terraform=_providers(account),
    )


def _items(account: Account, staging: str, *, uses_role: bool) -> Iterator[SetupItem]:
    yield from service_role_items(account)
    if not account.settings.subnets:
        yield network_item(account)
    if uses_role:
        yield role_item(account, staging)
        yield profile_item(account)


def _uses_role(settings: AwsSettings, context: SetupContext) -> bool:
    """Return whether workers need the role: not with a profile of the user, or without queues of AWS."""
    return settings.instance_profile in (None, NAME) and context.queue in ("", "aws")


def _providers(account: Account) -> tuple[TerraformBlock, ...]:
    required = TerraformBlock(
        kind="required_providers", arguments={"aws": {"source": "hashicorp/aws", "version": ">= 5.0"}}
    )
    chosen = {"region": account.region}
    if account.settings.profile:
        chosen["profile"] = account.settings.profile
    return (
        TerraformBlock(kind="terraform", blocks=(required,)),
        TerraformBlock(kind="provider", labels=("aws",), arguments=chosen),
    )
