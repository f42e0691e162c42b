"""Everything that ``cloud-tasks setup azure`` makes, in the order of its making.

All of it is in one resource group, with the instances of jobs: the worker's role, which deletes instances, is assigned
for that group only. Instances read the container of the staging, and write that of large messages, and no other.

Invariants, each with a test:

1. Shell lines and Terraform blocks make the same as the requests.
2. A second call changes nothing, also after an interruption, and so do two at the same time.
3. What setup did not make is not removed, and nothing that has content is.
"""

from __future__ import annotations

import attrs

from cloud_tasks.errors import CloudTasksError, ProviderError
from cloud_tasks.plugin import AccountSetup, SetupContext, SetupItem, TerraformBlock, TerraformExpression
from cloud_tasks_azure.permissions import worker_queue_allowed
from cloud_tasks_azure.queue.account import blob_container, queue_service
from cloud_tasks_azure.queue.queue_errors import code_of, translate_errors
from cloud_tasks_azure.settings import AzureSettings
from cloud_tasks_azure.setup.calls import Calls
from cloud_tasks_azure.setup.group import group_item, identity_item, principal_of, providers_item
from cloud_tasks_azure.setup.names import STAGING, Names, names_for
from cloud_tasks_azure.setup.roles import (
    BLOB_CONTRIBUTOR,
    BLOB_READER,
    QUEUE_CONTRIBUTOR,
    Grant,
    grants_item,
    role_item,
    worker_role,
)
from cloud_tasks_azure.setup.storage import ACCOUNT_ID, STORAGE, account_item, container_item, signed_in_to_account

__all__ = ["set_up"]

_POLLS = 200
"""Polls until a role takes effect: ten minutes."""
_NOT_YET = "AuthorizationPermissionMismatch"


def set_up(settings: AzureSettings, context: SetupContext) -> AccountSetup:
    """Implement `ComputeBackend.setup`."""
    names, calls = names_for(settings, context), Calls(settings)
    queue = context.queue or "azure"
    messages = worker_queue_allowed(attrs.evolve(settings, oversize_container=None), queue).data_actions
    large = settings.oversize_container if queue == "azure" else None
    items = [
        providers_item(calls, names),
        group_item(calls, names),
        *([identity_item(calls, names)] if names.has_own_identity else []),
        account_item(calls, names),
        # Before the containers, whose removal counts their objects.
        _person_item(calls, names),
        container_item(calls, names, STAGING, "files for instances, deleted after two weeks", expires=True),
    ]
    if large:
        items.append(container_item(calls, names, large, "messages over 47 KiB", expires=False))
    items += [role_item(calls, names, messages), _worker_item(calls, names, large), _access_item(calls, names)]
    return AccountSetup(
        account=f"subscription {names.subscription}",
        identity={"azure.subscription_id": names.subscription},
        settings={
            "run.region": names.region,
            "run.staging": f"az://{STAGING}",
            "azure.storage_account": names.account,
            "azure.resource_group": names.group,
            "azure.managed_identity": names.identity_id,
        },
        items=tuple(items),
        terraform=_terraform(names),
    )


def _person_item(calls: Calls, names: Names) -> SetupItem:
    grants = [
        Grant(
            role=role,
            scope=names.account_id,
            place=names.account,
            terraform_scope=ACCOUNT_ID,
            terraform_name=f"person_{kind}",
        )
        for kind, role in (("blobs", BLOB_CONTRIBUTOR), ("queues", QUEUE_CONTRIBUTOR))
    ]
    signed_in = '"$(az ad signed-in-user show --query id --output tsv)"'
    item = grants_item(
        calls,
        names,
        grants,
        lambda: calls.person,
        subject="your roles",
        purpose="access to blobs and queues, which even an owner of the subscription does not have",
        shell_principal=f"--assignee-object-id {signed_in} --assignee-principal-type User",
        terraform_principal={"principal_id": TerraformExpression("data.azurerm_client_config.current.object_id")},
    )

    def remove() -> str:
        # Containers are removed before, if they are empty.
        has_files = calls.find(names.container_id(STAGING), STORAGE) is not None
        return "without them you could not delete the files that are left" if has_files else item.remove()

    return attrs.evolve(item, remove=remove)


def _worker_item(calls: Calls, names: Names, large: str | None) -> SetupItem:
    containers = [(BLOB_READER, STAGING)] + ([(BLOB_CONTRIBUTOR, large)] if large else [])
    grants = [
        Grant(
            role=worker_role(names),
            scope=names.group_id,
            place=names.group,
            terraform_scope=TerraformExpression("azurerm_resource_group.cloud_tasks.id"),
            terraform_name="worker",
        ),
        *(
            Grant(
                role=role,
                scope=names.container_id(container),
                place=container,
                terraform_scope=TerraformExpression(f"azurerm_storage_container.{container.replace('-', '_')}.id"),
                terraform_name=f"worker_{container.replace('-', '_')}",
            )
            for role, container in containers
        ),
    ]
    kind = "" if names.has_own_identity else "data."
    show = f"az identity show --ids {names.identity_id} --query principalId --output tsv"
    return grants_item(
        calls,
        names,
        grants,
        lambda: principal_of(calls, names),
        subject=f"roles of {names.identity}",
        purpose="what instances may do",
        shell_principal=f'--assignee-object-id "$({show})" --assignee-principal-type ServicePrincipal',
        terraform_principal={
            "principal_id": TerraformExpression(f"{kind}azurerm_user_assigned_identity.worker.principal_id"),
            "principal_type": "ServicePrincipal",
        },
    )


def _access_item(calls: Calls, names: Names) -> SetupItem:
    """Return the last item, which makes nothing: roles take effect some minutes after their assignment."""
    settings = signed_in_to_account(calls, names)

    def look() -> str:
        if calls.find(names.account_id, STORAGE) is None:
            return "missing"
        try:
            with queue_service(settings, connections=1) as queues, translate_errors("listing queues"):
                next(queues.list_queues(results_per_page=1, retry_total=1).by_page(), None)
            with blob_container(settings, STAGING, connections=1) as blobs, translate_errors("listing blobs"):
                next(blobs.list_blob_names(results_per_page=1, retry_total=1).by_page(), None)
        except CloudTasksError as error:
            return code_of(error.__cause__) if error.__cause__ is not None else error.message
        return ""

    def make() -> None:
        for _ in range(_POLLS):
            problem = look()
            if not problem:
                return
            if problem != _NOT_YET:
                raise ProviderError(
                    f"no access to blobs and queues of {names.account}: {problem}",
                    hint="the network rules of the account may exclude this machine",
                )
            calls.wait()
        raise ProviderError("the roles have no effect after ten minutes", hint="wait some minutes more", transient=True)

    return SetupItem(
        subject=f"access to {names.account}",
        purpose="some minutes after the roles are assigned",
        look=look,
        make=make,
        remove=lambda: "",
        commands=(),
    )


def _terraform(names: Names) -> tuple[TerraformBlock, ...]:
    azurerm = {"source": "hashicorp/azurerm", "version": "~> 4.20"}
    given = {"name": names.identity, "resource_group_name": names.identity_id.split("/")[4]}
    identity = TerraformBlock(kind="data", labels=("azurerm_user_assigned_identity", "worker"), arguments=given)
    return (
        TerraformBlock(
            kind="terraform",
            blocks=(TerraformBlock(kind="required_providers", arguments={"azurerm": azurerm}),),
        ),
        TerraformBlock(kind="data", labels=("azurerm_client_config", "current")),
        *([] if names.has_own_identity else [identity]),
    )
