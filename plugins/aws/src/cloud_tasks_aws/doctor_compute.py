"""Checks of an AWS account for launching instances, for ``doctor`` and before a run. Read-only, but a dry-run launch.

Invariants, each with a test:

1. No resource is created: the launch is a dry run ("DryRun" in the EC2 API reference), without a group that is missing.
2. What may pass by itself, or cannot be read with these permissions, prevents no run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

from botocore.exceptions import ClientError

from cloud_tasks.errors import CloudTasksError, LaunchRefusedError, ProviderError
from cloud_tasks.model import Architecture, LaunchRequest, ProvisioningModel
from cloud_tasks.plugin import CheckContext, Finding
from cloud_tasks.plugin.kit import Probe, is_certain, run_probes
from cloud_tasks_aws.compute.build import launch_arguments, profile_argument
from cloud_tasks_aws.compute.compute_errors import launch_error, translate_errors
from cloud_tasks_aws.compute.image_resolver import AwsImages
from cloud_tasks_aws.compute.network import Network
from cloud_tasks_aws.compute.quotas import quota_of
from cloud_tasks_aws.doctor_staging import staging_probe
from cloud_tasks_aws.errors import code_of, is_denied
from cloud_tasks_aws.session import client
from cloud_tasks_aws.settings import AwsSettings

__all__ = ["check_compute"]

_PERMISSIONS = "cloud-tasks doctor --provider aws --policy"
_PROBE_TYPE = "t3.micro"
_ATTEMPTS = 3


def check_compute(settings: AwsSettings, context: CheckContext) -> Iterator[Finding]:
    """Yield one finding per check; a check whose prerequisite failed is skipped."""

    @cache
    def ec2() -> Any:
        return _client(settings, context, "ec2")

    @cache
    def network() -> Network:
        return Network(ec2(), settings)

    @cache
    def images() -> AwsImages:
        return AwsImages(ec2(), lambda: _client(settings, context, "ssm"))

    def probe(subject: str, remedy: str, look: Callable[[], str], *needs: str) -> Probe:
        return Probe(subject=subject, look=look, remedy=remedy, needs=needs, prevents_run=_prevents_run)

    login, vpc = "run: aws configure, or aws sso login", "run: aws ec2 create-default-vpc, or set aws.subnets"
    launch = context.launch
    probes = [
        probe("credentials", login, lambda: _account(settings, context)),
        probe("region", "set --region or run.region", lambda: _zones(settings, context), "credentials"),
        probe("network", vpc, lambda: _subnets(network()), "region"),
    ]
    if launch is None:
        probes.append(probe("boot image", _PERMISSIONS, lambda: _default_image(images()), "region"))
        probes += [
            probe(
                "launching",
                _PERMISSIONS,
                lambda: _default_launch(ec2(), settings, network(), images()),
                "boot image",
                "network",
            ),
            probe("fleets", _PERMISSIONS, lambda: _fleets(ec2(), settings, network()), "network"),
        ]
    else:
        request = launch
        probes.append(
            probe(
                "launching",
                _PERMISSIONS,
                lambda: _first_launch(ec2(), settings, network(), images(), request),
                "region",
            )
        )
    probes.append(
        Probe(
            subject="instance profile",
            look=lambda: _profile(settings, context),
            remedy="run: aws iam add-role-to-instance-profile",
            needs=("region",),
            prevents_run=lambda error: (
                _prevents_run(error) and (bool(settings.instance_profile) or context.queue == "aws")
            ),
        )
    )
    if context.staging:
        probes.append(staging_probe(settings, context, "credentials"))
    if launch is None:
        # The probe's type counts against the quota of the standard families.
        probes += [
            probe(
                f"{model.value} quota",
                _PERMISSIONS,
                partial(_quota, settings, context, str(quota_of(_PROBE_TYPE, model))),
                "region",
            )
            for model in (ProvisioningModel.ON_DEMAND, ProvisioningModel.SPOT)
        ]
    return run_probes(probes)


def _prevents_run(error: CloudTasksError) -> bool:
    """Return whether a launch would fail, too; a check may lack permissions that a launch does not need."""
    return is_certain(error) and (isinstance(error, LaunchRefusedError) or not is_denied(error.__cause__))


def _client(settings: AwsSettings, context: CheckContext, service: str) -> Any:
    return client(settings, service, context.region, attempts=_ATTEMPTS)


def _account(settings: AwsSettings, context: CheckContext) -> str:
    with translate_errors("getting the caller identity"):
        # STS has an endpoint in every region; us-east-1 is always enabled.
        caller = client(settings, "sts", context.region or "us-east-1", attempts=_ATTEMPTS).get_caller_identity()
    return f"{caller['Arn']} of account {caller['Account']}"


def _zones(settings: AwsSettings, context: CheckContext) -> str:
    ec2 = _client(settings, context, "ec2")
    with translate_errors("listing the zones"):
        zones = ec2.describe_availability_zones()["AvailabilityZones"]
    return f"{ec2.meta.region_name}: {len(zones)} {'zone' if len(zones) == 1 else 'zones'}"


def _subnets(network: Network) -> str:
    zones = sorted(network.zones())
    if not zones:
        raise CloudTasksError("no subnet found for instances")
    return f"subnets in {', '.join(zones)}"


def _default_image(images: AwsImages) -> str:
    return f"default image: {images.resolve(None, Architecture.X86_64).image_id}"


def _default_launch(ec2: Any, settings: AwsSettings, network: Network, images: AwsImages) -> str:
    """Check the permission to launch the default image in a subnet of the job, on demand and as a spot instance."""
    arguments: dict[str, Any] = {
        "MinCount": 1,
        "MaxCount": 1,
        "ImageId": images.resolve(None, Architecture.X86_64).image_id,
        "InstanceType": _PROBE_TYPE,
        "TagSpecifications": [{"ResourceType": kind, "Tags": _tags(settings)} for kind in _TAGGED],
        **network.interface(min(network.zones()), may_create=False),
    }
    if settings.instance_profile:
        arguments["IamInstanceProfile"] = profile_argument(settings.instance_profile)
    for market in ({}, {"InstanceMarketOptions": {"MarketType": "spot"}}):
        _probe_call("dry-run launch", ec2.run_instances, **arguments, **market)
    return f"launching {_PROBE_TYPE} is allowed, on demand and as a spot instance"


def _fleets(ec2: Any, settings: AwsSettings, network: Network) -> str:
    """Check the permission for the fleets in which EC2 selects an offer; without it, instances launch directly."""
    name = "cloud-tasks-doctor"
    _probe_call(
        "dry run of a launch template",
        ec2.create_launch_template,
        LaunchTemplateName=name,
        LaunchTemplateData={"InstanceType": _PROBE_TYPE},
        TagSpecifications=[{"ResourceType": "launch-template", "Tags": _tags(settings)}],
    )
    zone = min(network.zones())
    subnet = network.subnets_beside(zone)[zone]
    _probe_call(
        "dry run of a fleet",
        ec2.create_fleet,
        Type="instant",
        LaunchTemplateConfigs=[
            {
                "LaunchTemplateSpecification": {"LaunchTemplateName": name, "Version": "$Latest"},
                "Overrides": [{"InstanceType": _PROBE_TYPE, "SubnetId": subnet}],
            }
        ],
        TargetCapacitySpecification={"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "spot"},
        TagSpecifications=[{"ResourceType": "instance", "Tags": _tags(settings)}],
    )
    return "fleets are allowed"


def _probe_call(action: str, call: Callable[..., Any], **arguments: Any) -> None:
    try:
        with translate_errors(action):
            _dry_run(call, **arguments)
    except CloudTasksError as error:
        raise CloudTasksError(error.message, hint=_PERMISSIONS) from error


_TAGGED = ("instance", "volume", "network-interface")


def _tags(settings: AwsSettings) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in {**settings.tags, "cloud-tasks-job": "doctor"}.items()]


def _first_launch(ec2: Any, settings: AwsSettings, network: Network, images: AwsImages, request: LaunchRequest) -> str:
    """Check the first launch of a run with its image, disk, subnet, groups, key and instance profile."""
    offer = request.offer
    image = images.resolve(request.image, offer.instance_type.architecture)
    interface = network.interface(offer.zone, may_create=False)
    arguments = launch_arguments(request, settings, user_data=b"", image=image, interface=interface)
    try:
        with translate_errors("dry-run launch"):
            _dry_run(ec2.run_instances, **{key: value for key, value in arguments.items() if key != "ClientToken"})
    except ProviderError as error:
        cause = error.__cause__
        raise launch_error(offer, cause) if isinstance(cause, ClientError) else error from cause
    return f"launching {offer.instance_type.name} in {offer.zone} is allowed"


def _dry_run(call: Callable[..., Any], **arguments: Any) -> None:
    try:
        call(DryRun=True, **arguments)
    except ClientError as error:
        # A check of permissions: the zone may not offer the type, and the template of the fleet does not exist.
        if code_of(error) not in ("DryRunOperation", "InvalidLaunchTemplateName.NotFoundException"):
            raise


def _profile(settings: AwsSettings, context: CheckContext) -> str:
    """Check the instance profile: instances without one have no credentials, unless the startup script sets some."""
    name = settings.instance_profile
    if not name and (name == "" or context.queue not in ("", "aws")):
        return "none"
    if not name:
        raise CloudTasksError(
            "not set: workers on instances cannot access SQS and S3",
            hint="create a role with the worker policy (doctor --policy), then set aws.instance_profile; or set "
            'it to "" if the startup script provides credentials',
        )
    with translate_errors("getting the instance profile"):
        iam = client(settings, "iam", context.region or "us-east-1", attempts=_ATTEMPTS)
        profile = iam.get_instance_profile(InstanceProfileName=name.rpartition("/")[2])["InstanceProfile"]
    if not profile["Roles"]:
        raise CloudTasksError(f"{name} has no role")
    return f"{name} has the role {profile['Roles'][0]['RoleName']}"


def _quota(settings: AwsSettings, context: CheckContext, code: str) -> str:
    quotas = _client(settings, context, "service-quotas")
    try:
        with translate_errors(f"getting the quota {code}"):
            quota = quotas.get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]
    except ProviderError as error:
        if code_of(error.__cause__ or error) != "NoSuchResourceException":
            raise
        return f"{code} is not set for this account; the default holds"
    if quota["Value"] < 1:
        raise CloudTasksError(
            f"{quota['QuotaName']} is 0 vCPUs",
            hint=f"run: aws service-quotas request-service-quota-increase --service-code ec2 --quota-code {code}",
        )
    return f"{quota['QuotaName']}: {quota['Value']:g} vCPUs"
