"""Blob Storage with tokens: azurite behind a server that checks the identity of instances, as Azure does over https.

The controller uses azurite itself, with the key of the account. Sources: "Authorize with Microsoft Entra ID" and "Blob
Storage error codes" in the REST API reference of Azure Storage.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from arm_metadata import MetadataServer
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import BlobServiceClient
from azurite import ACCOUNT, Azurite
from fake_server import Answer, FakeServer, Request

from cloud_tasks_azure.settings import AzureSettings

__all__ = ["IDENTITY", "BlobStorage", "blob_storage"]

IDENTITY = (
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/cloud-tasks-worker"
)
_NUMBERS = itertools.count(1)
_REFER = "Server failed to authenticate the request. Please refer to the information in the www-authenticate header."
_FORMED = (
    "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly "
    "including the signature."
)
_MISMATCH = "This request is not authorized to perform this operation using this permission."


class BlobStorage:
    """The blobs of an account, and the metadata service of all instances."""

    def __init__(self, azurite: Azurite) -> None:
        self._azurite = azurite
        self._service: Any = BlobServiceClient.from_connection_string(azurite.connection_string)
        self.reads: list[str] = []
        """Names of the blobs that were read with a token."""
        self.may_read = True
        """Whether the identity has a role with which it may read blobs."""
        self.metadata = MetadataServer({"name": "vm"}, power_off=lambda: None, approve=lambda: None)
        self.metadata.identities = {IDENTITY}
        self.metadata.token = f"eyJ0.{next(_NUMBERS)}.-_x"
        self.accepted = {self.metadata.token}
        self.server = FakeServer()
        self.server.route("GET", rf"/{ACCOUNT}/(?P<container>[^/]+)/(?P<name>.+)", self._read)

    @property
    def settings(self) -> AzureSettings:
        return AzureSettings(
            blob_endpoint=f"{self.server.url}/{ACCOUNT}",
            connection_string=self._azurite.connection_string,
            managed_identity=IDENTITY,
            metadata_url=self.metadata.url,
        )

    def create(self, container: str) -> None:
        self._service.create_container(container)

    def put(self, url: str, content: bytes) -> None:
        """Store a blob."""
        container, _, name = url.partition("://")[2].partition("/")
        self._service.get_blob_client(container, name).upload_blob(content, overwrite=True)

    def contents(self, container: str) -> dict[str, bytes]:
        """Return the contents of all blobs by name."""
        client = self._service.get_container_client(container)
        return {name: client.download_blob(name).readall() for name in client.list_blob_names()}

    def close(self) -> None:
        self._service.close()
        self.metadata.close()

    def _read(self, request: Request) -> Answer:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if not scheme:
            return _error(401, "NoAuthenticationInformation", _REFER)
        # Earlier versions of the service, and requests without one, know no tokens.
        if scheme != "Bearer" or request.headers.get("x-ms-version", "") < "2017-11-09":
            return _error(403, "AuthenticationFailed", _FORMED)
        if token not in self.accepted:
            return _error(401, "InvalidAuthenticationInfo", _REFER)
        if not self.may_read:
            return _error(403, "AuthorizationPermissionMismatch", _MISMATCH)
        try:
            blob = self._service.get_blob_client(request.groups["container"], request.groups["name"])
            answer = Answer(body=bytes(blob.download_blob().readall()))
            self.reads.append(request.groups["name"])
            return answer
        except ResourceNotFoundError as error:
            kind = "container" if "container" in str(error.error_code).lower() else "blob"  # type: ignore[attr-defined]
            return _error(404, f"{kind.title()}NotFound", f"The specified {kind} does not exist.")


def _error(status: int, code: str, message: str) -> Answer:
    facts = f"RequestId:{uuid.uuid4()}\nTime:{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    body = f"<Error><Code>{code}</Code><Message>{message}\n{facts}</Message></Error>"
    return Answer(
        status=status,
        body=f'\ufeff<?xml version="1.0" encoding="utf-8"?>{body}'.encode(),
        headers={"Content-Type": "application/xml", "x-ms-error-code": code},
    )


@contextmanager
def blob_storage(azurite: Azurite) -> Iterator[BlobStorage]:
    store = BlobStorage(azurite)
    with store.server.serving():
        yield store
    store.close()
