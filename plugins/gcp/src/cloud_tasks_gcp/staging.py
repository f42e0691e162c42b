"""Downloads of instances from Cloud Storage, with the token of their own service account, and the controller's uploads.

Instances use the XML API, whose errors have a code ("HTTP status and error codes for XML"); it accepts the same tokens
("Cloud Storage authentication"), and takes the name of an object as the path.

Invariants, each with a test:

1. The name of an object is encoded completely, so that no part of it is a query.
2. Google's tokens are not sent unencrypted: an instance gets none for a plain http endpoint, unless its metadata server
   is a fake, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from cloud_tasks.plugin import Download, DownloadContext, StagingContext
from cloud_tasks_gcp.credentials import credentials, is_emulator
from cloud_tasks_gcp.settings import METADATA_URL, GcpSettings
from cloud_tasks_gcp.traits import STAGING_SCHEMES

__all__ = ["STORAGE", "download", "staging_options", "storage_endpoint"]

STORAGE = "https://storage.googleapis.com"
_TOKEN = "computeMetadata/v1/instance/service-accounts/default/token"


def download(settings: GcpSettings, context: DownloadContext) -> Download:
    """Implement `ComputeBackend.download`."""
    bucket, name = context.bucket_and_name(*STAGING_SCHEMES)
    endpoint = storage_endpoint(settings) or STORAGE
    url = f"{endpoint}/{bucket}/{quote(name, safe='/~')}"
    if is_emulator(endpoint) and settings.metadata_url == METADATA_URL:
        return Download(url=url)
    return Download(
        url=url,
        token_url=f"{settings.metadata_url.rstrip('/')}/{_TOKEN}",
        token_headers={"Metadata-Flavor": "Google"},
    )


def staging_options(settings: GcpSettings, context: StagingContext) -> Mapping[str, Any]:
    """Implement `ComputeBackend.staging_options`: arguments of `gcsfs.GCSFileSystem`."""
    endpoint = storage_endpoint(settings)
    options: dict[str, Any] = {"token": credentials(settings, endpoint=endpoint)}
    if endpoint:
        options["endpoint_url"] = endpoint
    if is_emulator(endpoint):
        # gcsfs asks a gRPC service for the kind of the bucket, which no emulator has.
        options["retry_timeout"] = 0.01
    if settings.project_id:
        options["project"] = settings.project_id
    return options


def storage_endpoint(settings: GcpSettings) -> str:
    """Return the endpoint of Cloud Storage; empty for Google's. The emulator's address may have no scheme."""
    endpoint = settings.storage_endpoint.rstrip("/")
    return f"http://{endpoint}" if endpoint and "://" not in endpoint else endpoint
