"""Minimum IAM permissions of controller and worker, checked by the doctor and printed as roles.

Sources: Google Cloud's "IAM permissions reference", "Access control with IAM" of Pub/Sub, "Compute Engine IAM roles and
permissions", and the required permissions on the reference page of each method called.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set

from cloud_tasks.plugin import CheckContext
from cloud_tasks_gcp.settings import GcpSettings
from cloud_tasks_gcp.traits import STAGING_SCHEMES

__all__ = ["COMPUTE", "CONTROLLER_QUEUE", "WORKER", "policies"]

CONTROLLER_QUEUE: tuple[str, ...] = (
    "monitoring.timeSeries.list",
    "pubsub.subscriptions.consume",
    "pubsub.subscriptions.create",
    "pubsub.subscriptions.delete",
    "pubsub.subscriptions.get",
    "pubsub.topics.attachSubscription",
    "pubsub.topics.create",
    "pubsub.topics.delete",
    "pubsub.topics.list",
    "pubsub.topics.publish",
)
"""Permissions to create, fill, purge and delete the queues of a job, and to read their depth."""

COMPUTE: tuple[str, ...] = (
    "compute.disks.create",
    "compute.disks.delete",
    "compute.disks.list",
    "compute.disks.setLabels",
    "compute.disks.useReadOnly",
    "compute.globalOperations.get",
    "compute.images.create",
    "compute.images.delete",
    "compute.images.get",
    "compute.images.getFromFamily",
    "compute.images.list",
    "compute.images.setLabels",
    "compute.images.useReadOnly",
    "compute.instances.create",
    "compute.instances.delete",
    "compute.instances.get",
    "compute.instances.getSerialPortOutput",
    "compute.instances.list",
    "compute.instances.setLabels",
    "compute.instances.setMetadata",
    "compute.instances.setServiceAccount",
    "compute.instances.setTags",
    "compute.instances.stop",
    "compute.machineTypes.list",
    "compute.networks.get",
    "compute.projects.get",
    "compute.regions.get",
    "compute.regions.list",
    "compute.subnetworks.get",
    "compute.subnetworks.use",
    "compute.subnetworks.useExternalIp",
    "compute.zoneOperations.get",
)
"""Permissions to launch, list and delete the instances of a job with their disks, to make images of them, and to read
catalog and quotas."""

WORKER: tuple[str, ...] = (
    "pubsub.subscriptions.consume",
    "pubsub.subscriptions.get",
    "pubsub.topics.publish",
)
"""Permissions to receive tasks, and to send events and retries."""

_QUOTA = "serviceusage.services.use"
"""Permission for user credentials, whose Billing Catalog calls count against the project's quota."""

_DEFAULT_WORKER = "cloud-tasks-worker"


def policies(settings: GcpSettings, context: CheckContext) -> Mapping[str, str]:
    """Return the custom roles of controller and worker, in the format of `gcloud iam roles create --file`."""
    project = settings.project_id or "PROJECT"
    worker = settings.service_account or f"{_DEFAULT_WORKER}@{project}.iam.gserviceaccount.com"
    controller = settings.impersonate_service_account
    member = f"serviceAccount:{controller}" if controller else "user:YOU@example.com"
    return {
        "cloud-tasks-controller.yaml": _role(
            "cloudTasksController",
            file="cloud-tasks-controller.yaml",
            title="cloud-tasks controller",
            description="Runs jobs: manages their queues and instances.",
            permissions=tuple(sorted({*CONTROLLER_QUEUE, *COMPUTE, _QUOTA})),
            project=project,
            member=member,
            also=(
                f"gcloud iam service-accounts add-iam-policy-binding {worker} --project {project} "
                f"--member {member} --role roles/iam.serviceAccountUser",
                *_shared_network(settings, project, member),
                *_buckets(member, read_write={*context.stores, *context.downloads, context.staging}),
            ),
        ),
        "cloud-tasks-worker.yaml": _role(
            "cloudTasksWorker",
            file="cloud-tasks-worker.yaml",
            title="cloud-tasks worker",
            description="Runs tasks: receives them from the task queue and sends their events.",
            permissions=WORKER,
            project=project,
            member=f"serviceAccount:{worker}",
            also=tuple(
                _buckets(
                    f"serviceAccount:{worker}",
                    read_write=set(context.stores),
                    read={*context.downloads, context.staging},
                )
            ),
        ),
    }


def _shared_network(settings: GcpSettings, project: str, member: str) -> Iterator[str]:
    """Yield the command for a subnetwork of another project (Shared VPC)."""
    host = re.search(r"(?:^|/)projects/([^/]+)/", settings.subnetwork or settings.network or "")
    if host is not None and host[1] != project:
        yield f"gcloud projects add-iam-policy-binding {host[1]} --member {member} --role roles/compute.networkUser"


def _buckets(member: str, *, read_write: Set[str], read: Set[str] = frozenset()) -> Iterator[str]:
    """Yield a command for each bucket of these URLs; without one, that for a bucket to be named."""
    roles = dict.fromkeys(_bucket_names(read), "objectViewer")
    roles |= dict.fromkeys(_bucket_names(read_write), "objectUser")
    for bucket, role in sorted(roles.items()) or [("BUCKET", "objectUser")]:
        command = f"gcloud storage buckets add-iam-policy-binding gs://{bucket} --member {member}"
        yield f"{command} --role roles/storage.{role}" + ("" if roles else "   # for gs:// files only")


def _bucket_names(urls: Set[str]) -> Iterator[str]:
    parts = (url.partition("://") for url in urls)
    return (place.partition("/")[0] for scheme, _, place in parts if scheme in STAGING_SCHEMES)


def _role(
    name: str,
    *,
    file: str,
    title: str,
    description: str,
    permissions: tuple[str, ...],
    project: str,
    member: str,
    also: tuple[str, ...],
) -> str:
    commands = (
        f"gcloud iam roles create {name} --project {project} --file {file}",
        f"gcloud projects add-iam-policy-binding {project} --member {member} "
        f"--role projects/{project}/roles/{name} --condition None",
        *also,
    )
    lines = [
        *(f"# {command}" for command in commands),
        f"title: {title}",
        f'description: "{description}"',
        "stage: GA",
        "includedPermissions:",
        *(f"- {permission}" for permission in permissions),
    ]
    return "\n".join(lines) + "\n"
