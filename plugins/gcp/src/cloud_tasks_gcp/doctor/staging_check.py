"""Check of the staging: whether the controller can upload to it, and what instances need to download from it."""

from __future__ import annotations

import importlib.util

from cloud_tasks.errors import InputError, NotFoundError
from cloud_tasks.plugin import StagingContext
from cloud_tasks.plugin.kit import DoubtError
from cloud_tasks_gcp.doctor.checks import Checks
from cloud_tasks_gcp.staging import STORAGE, storage_endpoint
from cloud_tasks_gcp.traits import STAGING_SCHEMES

__all__ = ["check_staging"]

_CONTROLLER = ("storage.objects.create", "storage.objects.get", "storage.objects.list")
_SCOPES = ("cloud-platform", "devstorage.read_only", "devstorage.read_write", "devstorage.full_control")
"""Access scopes with which a service account may read objects ("Cloud Storage authentication")."""


def check_staging(checks: Checks) -> str:
    """Check bucket, permissions of the controller, and access scopes of the instances."""
    place = StagingContext(url=f"{checks.context.staging.rstrip('/')}/file")
    bucket, _ = place.bucket_and_name(*STAGING_SCHEMES)
    if importlib.util.find_spec("gcsfs") is None:
        raise InputError("gcsfs is not installed", hint="run: pip install 'cloud-tasks-gcp[files]'")
    endpoint = storage_endpoint(checks.settings) or STORAGE
    query = "&".join(f"permissions={each}" for each in _CONTROLLER)
    path = f"storage/v1/b/{bucket}/iam/testPermissions?{query}"
    try:
        answer = checks.request(endpoint, "storage.googleapis.com", lambda rest: rest.get(path))
    except NotFoundError as error:
        create = f"gcloud storage buckets create gs://{bucket} --project {checks.project}"
        raise InputError(f"bucket {bucket} not found", hint=f"run: {create}") from error
    missing = [each for each in _CONTROLLER if each not in (answer.get("permissions") or ())]
    if missing:
        add = f"gcloud storage buckets add-iam-policy-binding gs://{bucket} --member user:YOU"
        raise InputError(
            f"these credentials cannot upload to gs://{bucket}: {', '.join(missing)} missing",
            hint=f"run: {add} --role roles/storage.objectUser",
        )
    if not any(scope.rpartition("/")[2] in _SCOPES for scope in checks.settings.scopes):
        raise DoubtError(
            "gcp.scopes lets no instance read Cloud Storage",
            hint="add https://www.googleapis.com/auth/devstorage.read_only to gcp.scopes",
        )
    account = checks.settings.service_account or "the default service account"
    return f"gs://{bucket} is writable; {account} needs roles/storage.objectViewer on it"
