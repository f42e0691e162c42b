"""Launch templates of fleets: one for each distinct launch data, shared by all launches that have it.

Invariants, each with a test:

1. Launches with the same data make one template, however many run at a time.
2. A template is deleted when this object is closed, or before, when a launch needs another one and none uses it: it
   contains the startup script. That of a killed controller is deleted at the end of the next command that launches or
   terminates instances of the job.
3. A template that another command of the job deleted is made again.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import attrs
from botocore.exceptions import BotoCoreError, ClientError

from cloud_tasks_aws.compute.retries import retry_call
from cloud_tasks_aws.compute.tags import JOB_TAG, shared_tags
from cloud_tasks_aws.errors import code_of

__all__ = ["LaunchTemplates", "Template"]

_LAUNCH_ARGUMENTS = ("ClientToken", "MinCount", "MaxCount", "Placement", "InstanceType", "InstanceMarketOptions")
_SUBNET_ARGUMENTS = ("SubnetId", "NetworkInterfaces")


@attrs.frozen
class Template:
    """A launch template."""

    name: str
    create: Callable[[], None]
    """Create it, unless it exists."""


class LaunchTemplates:
    """The launch templates of one backend. Thread-safe.

    Args:
        ec2: A client without retries.
    """

    def __init__(self, ec2: Any) -> None:
        self._ec2 = ec2
        self._lock = threading.Lock()
        self._users: dict[str, int] = {}
        """Number of launches that use a template, by name."""

    @contextmanager
    def shared(self, arguments: Mapping[str, Any]) -> Iterator[Template]:
        """Yield the template for `RunInstances` arguments."""
        data, tags = _data(arguments), shared_tags(arguments["TagSpecifications"][0]["Tags"])
        digest = hashlib.sha256(json.dumps([data, tags], sort_keys=True).encode()).hexdigest()
        name = f"cloud-tasks-{digest[:32]}"
        template = Template(name, partial(self._create, name, data, tags))
        with self._lock:
            if name not in self._users:
                template.create()
                for unused in [each for each, users in self._users.items() if not users]:
                    self._delete(unused)
                    del self._users[unused]
            self._users[name] = self._users.get(name, 0) + 1
        try:
            yield template
        finally:
            with self._lock:
                self._users[name] -= 1

    def close(self, job_id: str | None) -> None:
        """Delete the templates, and those of the job that a killed controller left.

        Args:
            job_id: None to look for no others.
        """
        names = list(self._users)
        if job_id:
            filters = [{"Name": f"tag:{JOB_TAG}", "Values": [job_id]}]
            with suppress(ClientError, BotoCoreError, LookupError):
                pages = self._ec2.get_paginator("describe_launch_templates").paginate(Filters=filters)
                names += [each["LaunchTemplateName"] for page in pages for each in page["LaunchTemplates"]]
        for name in dict.fromkeys(names):
            self._delete(name)

    def _create(self, name: str, data: Mapping[str, Any], tags: list[dict[str, str]]) -> None:
        marks = [{"ResourceType": "launch-template", "Tags": tags}]
        create = partial(self._ec2.create_launch_template, LaunchTemplateName=name, TagSpecifications=marks)
        try:
            retry_call(lambda: create(LaunchTemplateData=data))
        except ClientError as error:
            if code_of(error) != "InvalidLaunchTemplateName.AlreadyExistsException":
                raise

    def _delete(self, name: str) -> None:
        # A template that cannot be deleted costs nothing.
        with suppress(ClientError, BotoCoreError):
            retry_call(lambda: self._ec2.delete_launch_template(LaunchTemplateName=name))


def _data(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the launch data that all offers and all launches of a wave share."""
    data = {k: v for k, v in arguments.items() if k not in (*_LAUNCH_ARGUMENTS, *_SUBNET_ARGUMENTS)}
    interfaces = arguments.get("NetworkInterfaces")
    if interfaces is not None:
        # The subnet differs by offer; the rest of the interface is the same for all offers.
        data["NetworkInterfaces"] = [{k: v for k, v in each.items() if k != "SubnetId"} for each in interfaces]
    data["UserData"] = base64.b64encode(arguments["UserData"]).decode()
    # The fleet has the tags of its instance, which differ.
    data["TagSpecifications"] = [
        {**each, "Tags": shared_tags(each["Tags"])}
        for each in arguments["TagSpecifications"]
        if each["ResourceType"] != "instance"
    ]
    return data
