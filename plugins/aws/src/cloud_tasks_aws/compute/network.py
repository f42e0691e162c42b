"""Subnets and security groups of instances: the user's, or those of the default VPC.

Invariants, each with a test:

1. By default no inbound connection reaches an instance: its security group has no inbound rule.
2. The security group is created once per VPC and found again by name, also by concurrent launches.
3. A resource that was deleted in the meantime is looked up, or created, again.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from botocore.exceptions import ClientError

from cloud_tasks.errors import LaunchFailedError, LaunchRefusedError, RefusalScope
from cloud_tasks_aws.compute.compute_errors import translate_errors
from cloud_tasks_aws.errors import code_of
from cloud_tasks_aws.settings import AwsSettings

__all__ = ["GROUP_NAME", "Network"]

GROUP_NAME = "cloud-tasks-no-inbound"
_SUBNET_HINT = "create a default VPC with `aws ec2 create-default-vpc`, or set aws.subnets"


class Network:
    """Subnets and security groups of one region, cached until `forget`. Thread-safe."""

    def __init__(self, ec2: Any, settings: AwsSettings) -> None:
        self._ec2 = ec2
        self._settings = settings
        self._lock = threading.Lock()
        self._subnets: Mapping[str, Mapping[str, Any]] | None = None
        self._groups: dict[str, Sequence[str]] = {}

    def zones(self) -> frozenset[str]:
        """Return the zones with a usable subnet."""
        return frozenset(self._by_zone())

    def subnets_beside(self, zone: str) -> Mapping[str, str]:
        """Return the subnet ids by zone in the VPC of the given zone's subnet."""
        found = self._by_zone()
        vpc = found[zone]["VpcId"] if zone in found else None
        return {name: str(subnet["SubnetId"]) for name, subnet in found.items() if subnet["VpcId"] == vpc}

    def forget(self) -> None:
        """Drop the cache after EC2 reported a missing resource."""
        with self._lock:
            self._subnets = None
            self._groups.clear()

    def interface(self, zone: str, *, may_create: bool = True) -> dict[str, Any]:
        """Return the network arguments of a launch in this zone. Raises `LaunchRefusedError`.

        Args:
            may_create: Whether a missing security group is created; else the arguments name none.
        """
        subnet = self._by_zone().get(zone)
        if subnet is None:
            raise LaunchRefusedError(
                f"no usable subnet in {zone}",
                scope=RefusalScope.ZONE,
                retry_after=timedelta(days=1),
                reason="NoSubnet",
                hint=_SUBNET_HINT,
            )
        groups = list(self._security_groups(subnet["VpcId"], may_create=may_create))
        if self._settings.public_address is None:
            return {"SubnetId": subnet["SubnetId"], "SecurityGroupIds": groups}
        interface = {
            "DeviceIndex": 0,
            "SubnetId": subnet["SubnetId"],
            "Groups": groups,
            "AssociatePublicIpAddress": self._settings.public_address,
            "DeleteOnTermination": True,
        }
        return {"NetworkInterfaces": [interface]}

    def _by_zone(self) -> Mapping[str, Mapping[str, Any]]:
        with self._lock:
            if self._subnets is None:
                found: dict[str, Mapping[str, Any]] = {}
                for subnet in self._find_subnets():
                    known = found.get(subnet["AvailabilityZone"])
                    # Of several subnets in a zone, take the one with the most free addresses.
                    if known is None or _free_addresses(subnet) > _free_addresses(known):
                        found[subnet["AvailabilityZone"]] = subnet
                self._subnets = found
            return self._subnets

    def _find_subnets(self) -> Sequence[Mapping[str, Any]]:
        with translate_errors("listing subnets"):
            pages = self._ec2.get_paginator("describe_subnets")
            if self._settings.subnets:
                return [s for page in pages.paginate(SubnetIds=list(self._settings.subnets)) for s in page["Subnets"]]
            vpcs = self._ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
            if not vpcs:
                raise LaunchFailedError("region has no default VPC", hint=_SUBNET_HINT)
            filters = [
                {"Name": "vpc-id", "Values": [vpcs[0]["VpcId"]]},
                {"Name": "default-for-az", "Values": ["true"]},
            ]
            return [subnet for page in pages.paginate(Filters=filters) for subnet in page["Subnets"]]

    def _security_groups(self, vpc_id: str, *, may_create: bool) -> Sequence[str]:
        with self._lock:
            if vpc_id not in self._groups:
                with translate_errors("listing security groups"):
                    if not self._settings.security_groups and not may_create:
                        found = self._group(vpc_id, GROUP_NAME)
                        return [] if found is None else [found]
                    self._groups[vpc_id] = self._named_groups(vpc_id) or [self._own_group(vpc_id)]
            return self._groups[vpc_id]

    def _named_groups(self, vpc_id: str) -> Sequence[str]:
        configured = self._settings.security_groups
        names = [each for each in configured if not each.startswith("sg-")]
        found = {name: self._group(vpc_id, name) for name in names}
        missing = [name for name, group in found.items() if group is None]
        if missing:
            raise LaunchFailedError(
                f"aws.security_groups: {', '.join(missing)} not found in {vpc_id}", hint="check aws.security_groups"
            )
        return [found.get(each) or each for each in configured]

    def _own_group(self, vpc_id: str) -> str:
        found = self._group(vpc_id, GROUP_NAME)
        if found is not None:
            return found
        try:
            created = self._ec2.create_security_group(
                GroupName=GROUP_NAME, VpcId=vpc_id, Description="Workers of cloud-tasks: nothing may connect to them"
            )
        except ClientError as error:
            if code_of(error) != "InvalidGroup.Duplicate":
                raise
            found = self._group(vpc_id, GROUP_NAME)
            if found is None:
                raise
            return found
        return str(created["GroupId"])

    def _group(self, vpc_id: str, name: str) -> str | None:
        filters = [{"Name": "vpc-id", "Values": [vpc_id]}, {"Name": "group-name", "Values": [name]}]
        groups = self._ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
        return str(groups[0]["GroupId"]) if groups else None


def _free_addresses(subnet: Mapping[str, Any]) -> int:
    return int(subnet.get("AvailableIpAddressCount", 0))
