"""What ``cloud-tasks setup gcp`` makes in a project: services, an account for instances with its role, and a bucket.

Invariants, each with a test:

1. Every item is idempotent: under repetition, under two persons at the same time, and after a crash.
2. What others made is never removed, and changed only by additions to its access policy.
3. A bucket of another project is never used.
4. Policies keep everything else: other members, roles, conditions.
5. API calls, shell commands and Terraform blocks make the same.

Sources: the API references of Service Usage (services.batchGet, batchEnable), IAM (projects.serviceAccounts,
projects.roles), Cloud Resource Manager (projects.getIamPolicy, setIamPolicy) and Cloud Storage (buckets,
"Bucket naming guidelines", "Soft delete"); "Access change propagation" of IAM.
"""

from __future__ import annotations

from collections.abc import Iterator

from cloud_tasks.errors import CredentialsError, InputError, ProviderError
from cloud_tasks.plugin import AccountSetup, SetupContext, SetupItem, TerraformBlock
from cloud_tasks_gcp.credentials import project_id
from cloud_tasks_gcp.permissions import worker_address
from cloud_tasks_gcp.settings import GcpSettings
from cloud_tasks_gcp.setup.account import Account
from cloud_tasks_gcp.setup.bucket import Bucket, bucket_name
from cloud_tasks_gcp.setup.controller import controller_item
from cloud_tasks_gcp.setup.network import network_item
from cloud_tasks_gcp.setup.policies import bucket_grant, project_grant
from cloud_tasks_gcp.setup.role import Role
from cloud_tasks_gcp.setup.service_account import ServiceAccount
from cloud_tasks_gcp.setup.services import services_item

__all__ = ["setup"]


def setup(settings: GcpSettings, context: SetupContext) -> AccountSetup:
    """Implement `ComputeBackend.setup`."""
    try:
        project = project_id(settings)
    except CredentialsError:
        raise
    except ProviderError as error:
        raise InputError(error.message, hint=error.hint) from error
    worker = worker_address(settings, project)
    name = bucket_name(project)
    return AccountSetup(
        account=f"project {project}",
        identity={"gcp.project_id": project},
        settings={"run.staging": f"gs://{name}/staging", "gcp.service_account": worker},
        items=tuple(_items(Account(settings=settings, project=project), worker, name, context)),
        terraform=(
            TerraformBlock(
                kind="terraform",
                blocks=(
                    TerraformBlock(
                        kind="required_providers",
                        arguments={"google": {"source": "hashicorp/google", "version": ">= 5.21"}},
                    ),
                ),
            ),
        ),
    )


def _items(account: Account, worker: str, name: str, context: SetupContext) -> Iterator[SetupItem]:
    has_queues = context.queue in ("", "gcp")
    yield services_item(account, has_queues=has_queues)
    robot = ServiceAccount(account=account, address=worker)
    yield robot.item()
    if has_queues:
        role = Role(account=account)
        yield role.item()
        yield project_grant(account, role, robot)
    bucket = Bucket(account=account, name=name, location=context.region or "us")
    yield bucket.item()
    yield bucket_grant(account, bucket, robot)
    yield controller_item(account, robot)
    if not (account.settings.network or account.settings.subnetwork):
        yield network_item(account)
