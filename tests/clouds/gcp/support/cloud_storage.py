"""Cloud Storage with tokens: the emulator behind a server that checks the identity of instances.

Instances read by the XML API, with a token of the metadata server; the controller uses the JSON API, without one, as at
the other stand-ins. Errors are those of "HTTP status and error codes for XML".
"""

from __future__ import annotations

import itertools
import json
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
from fake_server import Answer, FakeServer, Request
from gce_metadata import MetadataServer
from project_admin import ProjectAdmin
from storage_emulator import denied, forwarded, storage_emulator

from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["CloudStorage", "cloud_storage"]

WORKER = "worker@fake-project.iam.gserviceaccount.com"
_TOKEN = "service-accounts/default/token"
_NUMBERS = itertools.count(1)


class CloudStorage:
    """One bucket, its readers, and the metadata server of all instances.

    Args:
        emulator: Address of the emulator.
        project: Fake project on the same server, which has more buckets, with policies.
    """

    def __init__(self, emulator: str, bucket: str, *, project: ProjectAdmin | None = None) -> None:
        self.bucket = bucket
        self._project = project
        self.readers = {WORKER}
        """Accounts that may read objects."""
        self.granted = frozenset({"storage.objects.create", "storage.objects.get", "storage.objects.list"})
        """Permissions of the controller."""
        self._emulator = emulator
        self._accounts: dict[str, str] = {}
        self._metadata = MetadataServer({}, power_off=lambda: None)
        self.sign_in(WORKER)
        self.server = FakeServer() if project is None else project.server
        self.server.route("GET", r"/storage/v1/b/(?P<bucket>[^/]+)/iam/testPermissions", self._test_permissions)
        self.server.route("GET", r"/storage/v1/b/[^/]+", denied)
        self.server.route("*", r"/(storage|upload|download|resumable)/.*", lambda call: forwarded(emulator, call))
        self.server.route("GET", r"/(?P<bucket>[^/]+)/(?P<name>.+)", self._read)

    @property
    def settings(self) -> GcpSettings:
        return GcpSettings(
            project_id="fake-project", storage_endpoint=self.server.url, metadata_url=f"http://{self._metadata.host}"
        )

    def sign_in(self, account: str) -> None:
        """Give instances another account; empty: none."""
        token = f"ya29.c.{next(_NUMBERS)}..~_-"
        self._accounts[token] = account
        answer = {"access_token": token, "expires_in": 3599, "token_type": "Bearer"}
        self._metadata.set(_TOKEN, json.dumps(answer))

    def revoke_tokens(self) -> None:
        self._accounts.clear()

    def put(self, url: str, content: bytes) -> None:
        """Store an object."""
        bucket, _, name = url.partition("://")[2].partition("/")
        query = urllib.parse.urlencode({"uploadType": "media", "name": name})
        address = f"{self._emulator}/upload/storage/v1/b/{bucket}/o?{query}"
        urllib.request.urlopen(urllib.request.Request(address, data=content, method="POST"), timeout=20).close()

    def close(self) -> None:
        self._metadata.close()

    def _read(self, request: Request) -> Answer:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or token not in self._accounts:
            return _error(401, "AuthenticationRequired", "Authentication required.")
        bucket, name = request.groups["bucket"], request.groups["name"]
        account = self._accounts[token]
        if not self._may_read(account, bucket):
            details = (
                f"{account} does not have storage.objects.get access to the Google Cloud Storage object. "
                "Permission 'storage.objects.get' denied on resource (or it may not exist)."
            )
            return _error(403, "AccessDenied", "Access denied.", details)
        path = f"/download/storage/v1/b/{bucket}/o/{urllib.parse.quote(name, safe='')}"
        answer = forwarded(self._emulator, attrs.evolve(request, path=path, all_query={"alt": ["media"]}, headers={}))
        if answer.status == 404 and bucket != self.bucket:
            return _error(404, "NoSuchBucket", "The specified bucket does not exist.")
        if answer.status == 404:
            return _error(404, "NoSuchKey", "The specified key does not exist.", f"No such object: {bucket}/{name}")
        return answer

    def _may_read(self, account: str, bucket: str) -> bool:
        policy = self._project.buckets.policies.get(bucket) if self._project is not None else None
        if policy is None:
            return bucket != self.bucket or account in self.readers
        return f"serviceAccount:{account}" in policy.members("roles/storage.objectViewer")

    def _test_permissions(self, request: Request) -> Answer:
        others = self._project.buckets.resources if self._project is not None else ()
        if request.groups["bucket"] not in (self.bucket, *others):
            message = "The specified bucket does not exist."
            return Answer(status=404, body={"error": {"code": 404, "message": message}})
        found = [each for each in request.all_query["permissions"] if each in self.granted]
        return Answer(body={"kind": "storage#testIamPermissionsResponse", "permissions": found})


def _error(status: int, code: str, message: str, details: str = "") -> Answer:
    detail = f"<Details>{details}</Details>" if details else ""
    body = (
        f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{message}</Message>{detail}</Error>"
    )
    return Answer(status=status, body=body.encode(), headers={"Content-Type": "application/xml; charset=UTF-8"})


@contextmanager
def cloud_storage(bucket: str = "bucket", *, project: ProjectAdmin | None = None) -> Iterator[CloudStorage]:
    """Run the store with an empty bucket; skip the test if the emulator is not installed.

    Args:
        project: Fake project whose buckets it has, too; its server is started here.
    """
    with storage_emulator(bucket) as emulator:
        store = CloudStorage(emulator, bucket, project=project)
        if project is not None:
            project.buckets.emulator = emulator
        with store.server.serving():
            yield store
        store.close()
