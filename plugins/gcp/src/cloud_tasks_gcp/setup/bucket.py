"""The item of the bucket for the staging: private, and emptied by Google after two weeks."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from cloud_tasks.errors import InputError, NotFoundError
from cloud_tasks.plugin import SetupItem, TerraformBlock, TerraformExpression
from cloud_tasks_gcp.api_errors import ConflictError, DeniedError
from cloud_tasks_gcp.setup.account import LABEL, Account, Resource, if_enabled, patiently

__all__ = ["Bucket", "bucket_name"]

_DAYS, _UPLOAD_DAYS = 14, 1
_EXPIRY = {"action": {"type": "Delete"}, "condition": {"age": _DAYS}}
_UPLOADS = {"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": _UPLOAD_DAYS}}
_LENGTH = 63
_OBJECTS = 1000
"""Maximum number of listed objects."""


def bucket_name(project: str) -> str:
    """Return the name of a project's bucket: ``cloud-tasks-PROJECT`` as far as the rules for names allow it.

    A name with dots would be that of a domain; one with "google", also misspelled, is refused.
    """
    name = "cloud-tasks-" + re.sub(r"[^a-z0-9-]", "-", project.lower())
    if len(name) <= _LENGTH and not re.search(r"g[o0]{2}g[l1]e", name) and not name.endswith("-"):
        return name
    return f"cloud-tasks-{hashlib.sha256(project.encode()).hexdigest()[:20]}"


@attrs.frozen(kw_only=True)
class Bucket:
    """A bucket of the project."""

    account: Account
    name: str
    location: str

    @property
    def _path(self) -> str:
        return f"storage/v1/b/{self.name}"

    def item(self) -> SetupItem:
        return SetupItem(
            subject=f"bucket {self.name}",
            purpose=f"files for instances, deleted after two weeks; a new one is in {self.location}",
            look=if_enabled(self._look),
            make=lambda: patiently(self._make),
            remove=if_enabled(self._remove),
            commands=tuple(self._commands()),
            terraform=(self._terraform(),),
        )

    def is_ours(self) -> bool:
        """Return whether `setup` made it."""
        found = self._find()
        return found is not None and LABEL in (found.get("labels") or ())

    def _find(self) -> Resource | None:
        """Return the bucket if it belongs to the project. Buckets of other projects may be readable, too."""
        query = {"project": self.account.project, "prefix": self.name}
        answer = self.account.storage(lambda rest: rest.get("storage/v1/b", **query))
        return next((each for each in answer.get("items") or () if each.get("name") == self.name), None)

    def _is_taken(self) -> bool:
        """Return whether the name belongs to another project."""
        try:
            self.account.storage(lambda rest: rest.get(self._path))
        except NotFoundError:
            return False
        except DeniedError:
            pass
        return self._find() is None  # else it was made meanwhile

    def _look(self) -> str:
        found = self._find()
        if found is None:
            return "its name belongs to another project" if self._is_taken() else "missing"
        problems = ", ".join(_problems(found))
        by_others = "" if LABEL in (found.get("labels") or ()) else "made by another program or person: "
        return f"{by_others}{problems}" if problems else ""

    def _make(self) -> None:
        """Create or correct the bucket. Raise `ConflictError` if it was changed meanwhile."""
        found = self._find()
        if found is None:
            if self._is_taken():
                raise InputError(
                    f"the name of bucket {self.name} belongs to another project",
                    hint=f"make a bucket of another name in project {self.account.project}, set run.staging and "
                    "gcp.service_account, and see: cloud-tasks doctor --policy",
                )
            body = {"name": self.name, "location": self.location, "labels": {LABEL: "1"}, **_merged(_problems({}))}
            self.account.storage(lambda rest: rest.post("storage/v1/b", body, project=self.account.project))
            return
        problems = _problems(found)
        if problems and LABEL not in (found.get("labels") or ()):
            raise InputError(
                f"bucket {self.name} was made by another program or person: {', '.join(problems)}",
                hint=f"set run.staging to another bucket; or run: gcloud storage buckets update gs://{self.name} "
                f"--update-labels {LABEL}=1, and setup again: its objects are then deleted after {_DAYS} days",
            )
        if problems:
            generation = str(found["metageneration"])
            body = _merged(problems)
            self.account.storage(lambda rest: rest.patch(self._path, body, ifMetagenerationMatch=generation))

    def _remove(self) -> str:
        if self._find() is None:
            return ""
        if not self.is_ours():
            return "another program or person made it"
        query = {"versions": "true", "maxResults": str(_OBJECTS), "fields": "items/name,nextPageToken"}
        try:
            answer = self.account.storage(lambda rest: rest.get(f"{self._path}/o", **query))
            count = len(answer.get("items") or ())
            if not count:
                self.account.storage(lambda rest: rest.delete(self._path))
        except NotFoundError:
            return ""
        except ConflictError:
            return "has objects"
        more = "more than " if answer.get("nextPageToken") else ""
        return f"has {more}{count:,} object{'' if count == 1 else 's'}" if count else ""

    def _commands(self) -> Iterator[str]:
        lifecycle = shlex.quote(json.dumps({"rule": [_EXPIRY, _UPLOADS]}))
        create = ("gcloud", "storage", "buckets", "create", f"gs://{self.name}", "--project", self.account.project)
        options = (
            *("--location", self.location, "--uniform-bucket-level-access", "--public-access-prevention"),
            *("--soft-delete-duration", "0", "--lifecycle-file"),
        )
        command = shlex.join((*create, *options))
        found = ("gcloud", "storage", "buckets", "list", "--project", self.account.project)
        condition = shlex.join((*found, "--filter", f"name={self.name}", "--format", "value(name)"))
        # One of another project is not listed.
        yield f'if [ -z "$({condition})" ]; then'
        # The program resolves links, so it cannot read its standard input as a file.
        yield f'  file=$(mktemp) && printf %s {lifecycle} >"$file" && {command} "$file" && rm "$file"'
        yield f"  gcloud storage buckets update gs://{self.name} --update-labels {LABEL}=1"
        yield "fi"

    def _terraform(self) -> TerraformBlock:
        def rule(of: Mapping[str, Any]) -> TerraformBlock:
            parts = (TerraformBlock(kind=kind, arguments=arguments) for kind, arguments in of.items())
            return TerraformBlock(kind="lifecycle_rule", blocks=tuple(parts))

        return TerraformBlock(
            kind="resource",
            labels=("google_storage_bucket", "staging"),
            arguments={
                "project": self.account.project,
                "name": self.name,
                "location": self.location.upper(),
                "uniform_bucket_level_access": True,
                "public_access_prevention": "enforced",
                "labels": {LABEL: "1"},
                "depends_on": (TerraformExpression("google_project_service.storage"),),
            },
            blocks=(
                rule(_EXPIRY),
                rule(_UPLOADS),
                TerraformBlock(kind="soft_delete_policy", arguments={"retention_duration_seconds": 0}),
            ),
        )


def _problems(bucket: Resource) -> dict[str, Mapping[str, Any]]:
    """Return what is wrong with a bucket, and the change of its resource that corrects it."""
    access = bucket.get("iamConfiguration") or {}
    rules = (bucket.get("lifecycle") or {}).get("rule") or ()
    lifecycle = [*rules, *(each for each in (_EXPIRY, _UPLOADS) if not _has(rules, each))]
    # A new bucket has a default of seven days, so the field is missing only where it does not exist yet.
    kept = int((bucket.get("softDeletePolicy") or {}).get("retentionDurationSeconds", 0 if bucket else 604_800))
    changes: dict[str, tuple[bool, Mapping[str, Any]]] = {
        "public access is possible": (
            access.get("publicAccessPrevention") != "enforced",
            {"iamConfiguration": {"publicAccessPrevention": "enforced"}},
        ),
        "objects may have access lists of their own": (
            not (access.get("uniformBucketLevelAccess") or {}).get("enabled"),
            {"iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}}},
        ),
        "objects are kept": (not _has(rules, _EXPIRY), {"lifecycle": {"rule": lifecycle}}),
        "incomplete uploads are kept": (not _has(rules, _UPLOADS), {"lifecycle": {"rule": lifecycle}}),
        f"deleted objects are kept for {kept / 86_400:g} days": (
            kept > 0,
            {"softDeletePolicy": {"retentionDurationSeconds": 0}},
        ),
        "former versions of objects are kept": (
            bool((bucket.get("versioning") or {}).get("enabled")),
            {"versioning": {"enabled": False}},
        ),
        "its readers pay": (
            bool((bucket.get("billing") or {}).get("requesterPays")),
            {"billing": {"requesterPays": False}},
        ),
    }
    return {text: change for text, (is_wrong, change) in changes.items() if is_wrong}


def _has(rules: Any, wanted: Mapping[str, Any]) -> bool:
    """Return whether a rule does the same, at the latest as early."""
    return any(
        (rule.get("action") or {}).get("type") == wanted["action"]["type"]
        and set(rule.get("condition") or ()) == {"age"}
        and int(rule["condition"]["age"]) <= wanted["condition"]["age"]
        for rule in rules
    )


def _merged(changes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return changes as one; those of one field are made together."""
    merged: dict[str, Any] = {}
    for change in changes.values():
        for name, value in change.items():
            merged[name] = {**merged.get(name, {}), **value}
    return merged
