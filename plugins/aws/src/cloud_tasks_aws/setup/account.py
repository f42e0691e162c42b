"""Requests to one account: as calls of boto3, and as lines of the AWS CLI with the same arguments.

Invariants, each with a test:

1. A line of shell has the arguments of the call, whatever characters they have.
2. A missing permission is named. The bucket of another account is never used.
3. What was made a moment ago may be unknown to other requests for some seconds ("Troubleshoot IAM: changes that I make
   are not always immediately visible", IAM user guide): they are repeated, within a limit.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs
from botocore import xform_name
from botocore.exceptions import ClientError

from cloud_tasks.errors import CloudTasksError, ProviderError
from cloud_tasks.escape import shell_word
from cloud_tasks_aws import errors
from cloud_tasks_aws.errors import code_of, is_denied, problem_of
from cloud_tasks_aws.session import client
from cloud_tasks_aws.settings import AwsSettings

__all__ = ["MARK", "Account", "Call"]

MARK = "cloud-tasks-setup"
"""Tag of what ``setup`` makes, with the value ``1``; nothing else is removed."""
_ATTEMPTS = 4
_PAUSE = 2.0
_PAUSES = 60
"""Two minutes, the limit that other tools give IAM and EC2."""
_NAMED = re.compile(r"not authorized to perform:? ([a-z0-9-]+:[A-Za-z]+)")
"""The permission in a refusal ("Troubleshoot access denied error messages", IAM user guide)."""
_OF_S3 = {
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "ListObjectsV2": "ListBucket",
    "PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
}
"""Permissions of S3 that are not named as the call ("Required permissions for Amazon S3 API operations")."""


@attrs.frozen(init=False)
class Call:
    """A call of a service, such as ``Call("iam", "GetRole", RoleName="x")``."""

    service: str
    operation: str
    arguments: Mapping[str, Any]

    def __init__(self, service: str, operation: str, **arguments: Any) -> None:
        self.__attrs_init__(service, operation, arguments)

    @property
    def permission(self) -> str:
        """The permission that the call needs: ``iam:GetRole``."""
        return f"{self.service}:{_OF_S3.get(self.operation, self.operation)}"


@attrs.frozen(kw_only=True)
class Account:
    """The account of the credentials, and the region of regional items."""

    settings: AwsSettings
    number: str
    """Account id: ``123456789012``."""
    region: str
    partition: str
    _clients: dict[str, Any] = attrs.field(factory=dict, init=False)

    @property
    def tags(self) -> dict[str, str]:
        """Tags of what is made: those of the settings, which an organization may demand, and the mark."""
        return {**self.settings.tags, MARK: "1"}

    @property
    def tag_list(self) -> list[dict[str, str]]:
        """The tags as calls have them."""
        return [{"Key": key, "Value": value} for key, value in self.tags.items()]

    def arn(self, service: str, resource: str) -> str:
        """Return the name of a resource in policies."""
        return f"arn:{self.partition}:{service}:::{resource}"

    def client(self, service: str) -> Any:
        """Return boto3's client of a service, in the region."""
        if service not in self._clients:
            self._clients[service] = client(self.settings, service, self.region, attempts=_ATTEMPTS)
        return self._clients[service]

    def at(self, region: str) -> Account:
        """Return the account with another region for regional items."""
        return self if region == self.region else attrs.evolve(self, region=region)

    def ask(self, call: Call) -> Mapping[str, Any]:
        """Return the answer to a call."""
        with self._translated(call):
            return self._send(call)

    def find(self, call: Call, *absent: str) -> Mapping[str, Any] | None:
        """Return the answer to a call; None for an error with one of these codes."""
        with self._translated(call):
            try:
                return self._send(call)
            except ClientError as error:
                if code_of(error) in absent:
                    return None
                raise

    def make(self, call: Call, *done: str, unknown: str = "") -> None:
        """Make a call that changes something.

        Args:
            done: Codes of errors that say that it has been done, by another person or before.
            unknown: Codes, as a regular expression, of errors about what was made a moment ago: the call is repeated.
        """
        with self._translated(call):
            for left in range(_PAUSES, -1, -1):
                try:
                    self._send(call)
                    return
                except ClientError as error:
                    if code_of(error) in done:
                        return
                    if not left or not re.fullmatch(unknown, code_of(error)):
                        raise
                time.sleep(_PAUSE)

    def settle(self, look: Callable[[], str]) -> None:
        """Return when an item that was made is seen as needed. Raises `CloudTasksError` after two minutes."""
        for left in range(_PAUSES, -1, -1):
            if not (problem := look()):
                return
            if not left:
                raise CloudTasksError(f"{problem}, although it was made", hint="repeat: cloud-tasks setup aws")
            time.sleep(_PAUSE)

    def command(self, call: Call, waiter: str = "") -> str:
        """Return the line of shell that makes a call, or that repeats it until the condition of a waiter is reached."""
        of_cli = "s3api" if call.service == "s3" else call.service
        name = xform_name(call.operation, "-")
        words = ["aws", of_cli, *(["wait", waiter] if waiter else [name]), "--region", self.region]
        if self.settings.profile:
            words += ["--profile", self.settings.profile]
        for name, value in call.arguments.items():
            words += [f"--{xform_name(name, '-')}", value if isinstance(value, str) else json.dumps(value)]
        return " ".join(map(shell_word, words))

    def commands_unless(self, found: Call, waiter: str, *calls: Call) -> tuple[str, ...]:
        """Return the lines of shell that make calls unless another one finds what they make."""
        made = [*map(self.command, calls), self.command(found, waiter)]
        return (f"if ! {self.command(found)} >/dev/null 2>&1; then", *(f"  {line}" for line in made), "fi")

    def _send(self, call: Call) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = getattr(self.client(call.service), xform_name(call.operation))(**call.arguments)
        return answer

    @contextmanager
    def _translated(self, call: Call) -> Iterator[None]:
        try:
            with errors.translate_errors(f"{call.service} {call.operation}"):
                yield
        except ProviderError as error:
            if not is_denied(error.__cause__):
                raise
            message = problem_of(error.__cause__).message
            named = _NAMED.search(message)
            needed = named[1] if named else call.permission
            deny = ", denied explicitly by a policy," if "explicit deny" in message else ""
            raise CloudTasksError(
                f"missing permission{deny} {needed}",
                hint=f"ask an administrator of account {self.number} for it, or to run: cloud-tasks setup aws",
            ) from error.__cause__
