"""Downloads of instances from Blob Storage, with a token of their managed identity, and the controller's uploads.

The resource of the token is the same for the accounts of all clouds, and requests with a token name version 2017-11-09
of the service or a later one ("Authorize with Microsoft Entra ID", Blob Storage REST API).

Invariants, each with a test:

1. The account of an address is that of the URL, else that of the settings, for downloads and uploads alike.
2. The name of a blob is encoded completely, so that no part of it is a query.
3. Azure's tokens are not sent unencrypted: an instance gets none for a plain http endpoint, unless its metadata service
   is a fake, too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import attrs

from cloud_tasks.errors import InputError
from cloud_tasks.plugin import Download, DownloadContext, StagingContext
from cloud_tasks_azure.credentials import is_emulator
from cloud_tasks_azure.queue.account import address_of, connection_string
from cloud_tasks_azure.settings import METADATA_URL, AzureSettings
from cloud_tasks_azure.traits import STAGING_SCHEMES

__all__ = ["download", "for_account_of", "staging_options"]

_RESOURCE = "https://storage.azure.com/"
_VERSION = "2021-12-02"


def download(settings: AzureSettings, context: DownloadContext) -> Download:
    """Implement `ComputeBackend.download`."""
    container, name = context.bucket_and_name(*STAGING_SCHEMES)
    own, container = for_account_of(settings, container)
    identity = settings.managed_identity
    if identity is None:
        raise InputError(
            "instances without a managed identity cannot download from Blob Storage",
            where="azure.managed_identity",
            hint="set azure.managed_identity to an identity with the worker's role (doctor --policy)",
        )
    address = address_of(own, "blob", own.blob_endpoint).rstrip("/")
    url, headers = f"{address}/{container}/{quote(name, safe='/~')}", {"x-ms-version": _VERSION}
    if is_emulator(address) and settings.metadata_url == METADATA_URL:
        return Download(url=url, headers=headers)
    query = {"api-version": "2018-02-01", "resource": _RESOURCE}
    if identity != "system":
        # A policy of the organization may add another identity, between which Azure does not choose.
        query["msi_res_id"] = identity
    return Download(
        url=url,
        headers=headers,
        token_url=f"{settings.metadata_url.rstrip('/')}/metadata/identity/oauth2/token?{urlencode(query)}",
        token_headers={"Metadata": "true"},
    )


def staging_options(settings: AzureSettings, context: StagingContext) -> Mapping[str, Any]:
    """Implement `ComputeBackend.staging_options`: arguments of `adlfs.AzureBlobFileSystem`."""
    own, _ = for_account_of(settings, context.url.partition("://")[2].partition("/")[0])
    text = connection_string(own)
    if text is not None:
        return {"connection_string": text}
    host = urlsplit(address_of(own, "blob", own.blob_endpoint)).netloc
    options: dict[str, Any] = {"account_name": host.partition(".")[0], "account_host": host, "anon": False}
    if settings.client_secret is not None:
        options |= {name: getattr(settings, name) for name in ("tenant_id", "client_id", "client_secret")}
    return options


def for_account_of(settings: AzureSettings, place: str) -> tuple[AzureSettings, str]:
    """Return settings with the storage account of a URL, and the name of its container.

    Args:
        place: ``CONTAINER``, or ``CONTAINER@ACCOUNT.blob.core.windows.net``, also with ``dfs`` and in other clouds.
    """
    container, _, host = place.rpartition("@") if "@" in place else (place, "", "")
    if host:
        # The key in a connection string does not open another account.
        without_key = attrs.evolve(settings, connection_string=None, connection_string_file=None)
        return attrs.evolve(without_key, storage_account=f"https://{host}", blob_endpoint=None), container
    if settings.storage_account is None and settings.blob_endpoint is None:
        return attrs.evolve(settings, storage_account=_default_account(settings)), container
    return settings, container


def _default_account(settings: AzureSettings) -> str | None:
    """Return the account that adlfs finds for ``az://CONTAINER``."""
    parts = dict(re.findall(r"(\w+)=([^;]*)", connection_string(settings) or ""))
    if "BlobEndpoint" in parts:
        return str(parts["BlobEndpoint"])
    name, suffix = parts.get("AccountName"), parts.get("EndpointSuffix", "core.windows.net")
    return f"https://{name}.blob.{suffix}" if name else os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
