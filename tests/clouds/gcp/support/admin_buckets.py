"""Buckets of Cloud Storage's JSON API, of the fake project and of others: names are global."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
from admin_errors import NUMBER, storage_refused
from admin_policies import Policy
from fake_server import Answer, Request
from storage_emulator import forwarded

if TYPE_CHECKING:
    from project_admin import ProjectAdmin

__all__ = ["Buckets"]

_BUCKET = r"/storage/v1/b/(?P<name>[^/]+)"
_DEFAULTS: Mapping[str, Any] = {
    "kind": "storage#bucket",
    "location": "US",
    "storageClass": "STANDARD",
    "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": False}, "publicAccessPrevention": "inherited"},
    "softDeletePolicy": {"retentionDurationSeconds": "604800"},
}


class Buckets:
    """Buckets by name."""

    def __init__(self, project: ProjectAdmin) -> None:
        self.resources: dict[str, dict[str, Any]] = {}
        self.policies: dict[str, Policy] = {}
        self.objects: dict[str, list[str]] = {}
        """Names of objects, by bucket; those with a ``#`` are former versions."""
        self.emulator = ""
        """Address of the emulator that has the objects; empty: `objects`."""
        self._project = project
        for method, path, permission, handler, writes in (
            ("GET", "/storage/v1/b", "list", self._list, False),
            ("POST", "/storage/v1/b", "create", self._create, True),
            ("GET", _BUCKET, "get", self._get, False),
            ("PATCH", _BUCKET, "update", self._patch, True),
            ("DELETE", _BUCKET, "delete", self._delete, True),
            ("GET", rf"{_BUCKET}/iam", "getIamPolicy", self._get_policy, False),
            ("PUT", rf"{_BUCKET}/iam", "setIamPolicy", self._set_policy, True),
        ):
            project.serve(method, path, f"storage.buckets.{permission}", handler, writes=writes)
        project.serve("GET", rf"{_BUCKET}/o", "storage.objects.list", self._objects)

    def add(self, name: str, /, *, number: str = NUMBER, **fields: Any) -> None:
        """Make a bucket, as another person would.

        Args:
            number: Number of its project.
        """
        resource = {"name": name, "projectNumber": number, "metageneration": "1", **copy.deepcopy(dict(_DEFAULTS))}
        _merge(resource, fields)
        resource["location"] = resource["location"].upper()
        self.resources[name] = resource
        self.objects[name] = []
        owner = {"role": "roles/storage.legacyBucketOwner", "members": [f"projectOwner:{self._project.project}"]}
        self.policies[name] = Policy(self._project, owner, is_storage=True)

    def change(self, name: str, /, **fields: Any) -> None:
        """Change a bucket, as another person would."""
        resource = self.resources[name]
        _merge(resource, fields)
        resource["metageneration"] = str(int(resource["metageneration"]) + 1)

    def _list(self, request: Request) -> Any:
        assert request.query["project"] == self._project.project
        own = (each for each in self.resources.values() if each["projectNumber"] == NUMBER)
        return {
            "kind": "storage#buckets",
            "items": [each for each in own if each["name"].startswith(request.query["prefix"])],
        }

    def _create(self, request: Request) -> Any:
        assert request.query["project"] == self._project.project
        body = request.json()
        name = body.pop("name")
        valid = re.fullmatch(r"(?!goog)(?!.*g[o0]{2}g[l1]e)[a-z0-9][a-z0-9_-]{1,61}[a-z0-9]", name)
        if not valid:
            raise storage_refused(400, "invalid", f"Invalid bucket name: '{name}'")
        if name in self.resources:
            own = self.resources[name]["projectNumber"] == NUMBER
            raise storage_refused(
                409,
                "conflict",
                "Your previous request to create the named bucket succeeded and you already own it."
                if own
                else "The requested bucket name is not available. The bucket namespace is shared by all users of the "
                "system. Please select a different name and try again.",
            )
        self.add(name, **body)
        if self.emulator:
            body = json.dumps({"name": name}).encode()
            headers = {"content-type": "application/json"}
            forwarded(self.emulator, attrs.evolve(request, all_query={}, headers=headers, body=body))
        return self.resources[name]

    def _found(self, request: Request, permission: str) -> str:
        name = request.groups["name"]
        if name not in self.resources:
            raise storage_refused(404, "notFound", "The specified bucket does not exist.")
        if self.resources[name]["projectNumber"] != NUMBER:
            message = (
                f"sam@example.com does not have storage.buckets.{permission} access to the Cloud Storage bucket. "
                f"Permission 'storage.buckets.{permission}' denied on resource (or it may not exist)."
            )
            raise storage_refused(403, "forbidden", message)
        return name

    def _get(self, request: Request) -> Any:
        return self.resources[self._found(request, "get")]

    def _patch(self, request: Request) -> Any:
        name = self._found(request, "update")
        resource = self.resources[name]
        if request.query.get("ifMetagenerationMatch", resource["metageneration"]) != resource["metageneration"]:
            message = "At least one of the pre-conditions you specified did not hold."
            raise storage_refused(412, "conditionNotMet", message)
        self.change(name, **request.json())
        return resource

    def _delete(self, request: Request) -> Any:
        name = self._found(request, "delete")
        if self.objects[name]:
            raise storage_refused(409, "conflict", "The bucket you tried to delete is not empty.")
        del self.resources[name]
        return Answer(status=204)

    def _objects(self, request: Request) -> Any:
        if self.emulator:
            return forwarded(self.emulator, request)
        all_versions = request.query.get("versions") == "true"
        names = [each for each in self.objects[self._found(request, "list")] if all_versions or "#" not in each]
        size = int(request.query["maxResults"])
        more = {"nextPageToken": "more"} if len(names) > size else {}
        return {"items": [{"name": name} for name in names[:size]], **more}

    def _get_policy(self, request: Request) -> Any:
        policy = self.policies[self._found(request, "getIamPolicy")]
        return {"kind": "storage#policy", **policy.read(request.query.get("optionsRequestedPolicyVersion"))}

    def _set_policy(self, request: Request) -> Any:
        return self.policies[self._found(request, "setIamPolicy")].write(request.json())


def _merge(resource: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Change fields as the method ``patch`` does: nested objects are merged, and lists replaced."""
    for name, value in changes.items():
        if isinstance(value, Mapping) and isinstance(resource.get(name), dict):
            _merge(resource[name], value)
        else:
            resource[name] = copy.deepcopy(value)
