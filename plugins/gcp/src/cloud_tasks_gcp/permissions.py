"""What controller and worker have to be allowed, and no more: asked for by the doctor, printed as roles.

Sources: Google Cloud's "IAM permissions reference", "Access control with IAM" of Pub/Sub, "Compute Engine IAM roles and
permissions", and for each call that is made the permissions that its reference page asks for.
"""

from __future__ import annotations

from collections.abc import Mapping

from cloud_tasks.plugin import CheckContext
from cloud_tasks_gcp.settings import GcpSettings

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
    "pubsub.topics.get",
    "pubsub.topics.list",
    "pubsub.topics.publish",
)
"""To make, fill, empty and remove the queues of a job, and to see how full they are."""

COMPUTE: tuple[str, ...] = (
    "compute.disks.create",
    "compute.disks.delete",
    "compute.disks.list",
    "compute.disks.setLabels",
    "compute.images.get",
    "compute.images.getFromFamily",
    "compute.images.list",
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
"""To start, find and remove the instances of a job with their disks, and to see what there is and what is left."""

WORKER: tuple[str, ...] = (
    "pubsub.subscriptions.consume",
    "pubsub.subscriptions.get",
    "pubsub.topics.get",
    "pubsub.topics.publish",
)
"""To take tasks, and to send events and tasks that are tried again."""

_QUOTA = "serviceusage.services.use"
"""For a person's own credentials, whose calls to the Billing Catalog are counted in the project."""

_DEFAULT_WORKER = "cloud-tasks-worker"


def policies(settings: GcpSettings, context: CheckContext) -> Mapping[str, str]:
    """The custom roles of controller and worker, as `gcloud iam roles create --file` takes them."""
    project = settings.project_id or "PROJECT"
    worker = settings.service_account or f"{_DEFAULT_WORKER}@{project}.iam.gserviceaccount.com"
    controller = settings.impersonate_service_account
    member = f"serviceAccount:{controller}" if controller else "user:YOU@example.com"
    return {
        "cloud-tasks-controller.yaml": _role(
            "cloudTasksController",
            file="cloud-tasks-controller.yaml",
            title="cloud-tasks controller",
            description="Runs jobs: their queues, their instances, nothing else.",
            permissions=tuple(sorted({*CONTROLLER_QUEUE, *COMPUTE, _QUOTA})),
            project=project,
            member=member,
            also=(
                f"gcloud iam service-accounts add-iam-policy-binding {worker} --project {project} "
                f"--member {member} --role roles/iam.serviceAccountUser",
            ),
        ),
        "cloud-tasks-worker.yaml": _role(
            "cloudTasksWorker",
            file="cloud-tasks-worker.yaml",
            title="cloud-tasks worker",
            description="Takes tasks from the queues of jobs and reports what became of them.",
            permissions=WORKER,
            project=project,
            member=f"serviceAccount:{worker}",
            also=(
                "gcloud storage buckets add-iam-policy-binding gs://BUCKET "
                f"--member serviceAccount:{worker} --role roles/storage.objectUser   # for gs:// files only",
            ),
        ),
    }


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
