"""vCPU quotas of the account and their headroom; a quota counts certain families ("Amazon EC2 service quotas")."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import Headroom, InstanceType, Offer, ProvisioningModel
from cloud_tasks.plugin.kit import headroom_within
from cloud_tasks_aws.compute.compute_errors import translate_errors

__all__ = ["counts_standard_families", "headroom", "limit_of", "quota_of"]


@attrs.frozen(kw_only=True)
class _QuotaClass:
    """Instance families that share a quota, and the quota's code by provisioning model."""

    families: frozenset[str]
    on_demand: str
    spot: str


_CLASSES = (
    _QuotaClass(families=frozenset("acdhimrtz"), on_demand="L-1216C47A", spot="L-34B43A08"),
    _QuotaClass(families=frozenset({"g", "gr", "vt"}), on_demand="L-DB2E81BA", spot="L-3819A6DF"),
    _QuotaClass(families=frozenset({"p"}), on_demand="L-417A185B", spot="L-7212CCBC"),
    _QuotaClass(families=frozenset({"x"}), on_demand="L-7295265B", spot="L-E3A00192"),
    _QuotaClass(families=frozenset({"f"}), on_demand="L-74FC7D96", spot="L-88CF9481"),
    _QuotaClass(families=frozenset({"inf"}), on_demand="L-1945791B", spot="L-B5D1601B"),
    _QuotaClass(families=frozenset({"trn"}), on_demand="L-2C3B7624", spot="L-6B0D517C"),
    _QuotaClass(families=frozenset({"dl"}), on_demand="L-6E869C2A", spot="L-85EED4F7"),
)
_STANDARD = _CLASSES[0]
_LETTERS = re.compile(r"[a-z]+")
_COUNTED_STATES = ["pending", "running", "shutting-down", "stopping"]


def _class(type_name: str) -> _QuotaClass | None:
    match = _LETTERS.match(type_name)
    letters = match[0] if match else ""
    for each in _CLASSES:
        if letters in each.families:
            return each
    # is4gen and im4gn count as I, by their first letter; new standard families would as well.
    standard = letters[:1] in _STANDARD.families and letters[:3] not in ("hpc", "mac")
    return _STANDARD if standard else None


def quota_of(type_name: str, provisioning_model: ProvisioningModel) -> str | None:
    """Return the code of the quota that counts these instances, or None if it is unknown."""
    found = _class(type_name)
    return None if found is None else found.spot if provisioning_model is ProvisioningModel.SPOT else found.on_demand


def counts_standard_families(type_name: str) -> bool:
    """Return whether the type counts against the standard quota, which nearly all types share."""
    return _class(type_name) is _STANDARD


def limit_of(quotas: Any, offer: Offer) -> float | None:
    """Return the vCPU limit of the offer's quota, or None if it is unknown or may not be read."""
    quota = _quota(quotas, quota_of(offer.instance_type.name, offer.provisioning_model))
    return None if quota is None else float(quota["Value"])


def _quota(quotas: Any, code: str | None) -> Mapping[str, Any] | None:
    if code is None:
        return None
    try:
        with translate_errors("getting the quota"):
            found: Mapping[str, Any] = quotas.get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]
            return found if "Value" in found else None
    except ProviderError as error:
        if error.transient:
            raise
        return None


def headroom(ec2: Any, quotas: Any, offer: Offer, types: Iterable[InstanceType]) -> Headroom | None:
    """Return how many more instances the vCPU quota allows, or None if the quota is unknown or may not be read."""
    code = quota_of(offer.instance_type.name, offer.provisioning_model)
    quota = _quota(quotas, code)
    if quota is None:
        return None
    vcpus = {each.name: each.vcpus for each in types}
    used = sum(
        _vcpus(each, vcpus)
        for each in _counted_instances(ec2)
        if quota_of(each["InstanceType"], _provisioning_model(each)) == code
    )
    name = f"{quota.get('QuotaName', code)} ({quota['Value']:g} vCPUs, {used} in use)"
    return headroom_within([(name, offer.instance_type.vcpus)], {name: float(quota["Value"]) - used})


def _counted_instances(ec2: Any) -> Iterable[Mapping[str, Any]]:
    """Return all instances of the account that may count against a quota."""
    with translate_errors("listing instances"):
        pages = ec2.get_paginator("describe_instances").paginate(
            Filters=[{"Name": "instance-state-name", "Values": _COUNTED_STATES}], PaginationConfig={"PageSize": 1000}
        )
        return [
            instance for page in pages for reservation in page["Reservations"] for instance in reservation["Instances"]
        ]


def _provisioning_model(description: Mapping[str, Any]) -> ProvisioningModel:
    return ProvisioningModel.SPOT if description.get("InstanceLifecycle") == "spot" else ProvisioningModel.ON_DEMAND


def _vcpus(description: Mapping[str, Any], known: Mapping[str, int]) -> int:
    options = description.get("CpuOptions")
    if options:
        return int(options["CoreCount"]) * int(options["ThreadsPerCore"])
    return known.get(description["InstanceType"], 0)
