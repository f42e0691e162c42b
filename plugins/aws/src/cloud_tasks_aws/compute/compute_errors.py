"""Translation of EC2 errors: transient, a refusal with its scope, or permanent.

Codes: "Error codes for the Amazon EC2 API". No botocore exception leaves this package.
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from datetime import timedelta

from botocore.exceptions import ClientError, HTTPClientError

from cloud_tasks.errors import LaunchFailedError, LaunchRefusedError, ProviderError, RefusalScope
from cloud_tasks.model import Offer
from cloud_tasks.plugin.kit import ErrorKind, ErrorRule, Problem, judge, matching_rule, refused
from cloud_tasks_aws import errors
from cloud_tasks_aws.errors import (
    CREDENTIALS,
    RULES,
    TRANSIENT,
    code_of,
    problem_of,
)

__all__ = [
    "NO_FLEETS",
    "QUOTAS",
    "UNTRIED",
    "code_of",
    "ids_in",
    "is_after_the_token",
    "is_not_yet_visible",
    "is_template_unknown",
    "is_transient",
    "launch_error",
    "leaves_open",
    "preparation_error",
    "translate_errors",
    "widen_unknown",
]

UNTRIED = "UnfulfillableCapacity"
"""Code that a fleet returns for an offer it did not try, or for which it has no other code."""

_GROUP_NOT_FOUND = frozenset({"InvalidGroup.NotFound", "InvalidSecurityGroupID.NotFound"})
_TEMPLATE_NOT_FOUND = ("InvalidLaunchTemplateName.NotFound", "InvalidLaunchTemplateId.")

_SHORT = timedelta(minutes=5)
"""Also for causes that a person has to fix: a waiting job costs nothing and should resume soon after the fix."""
_MEDIUM = timedelta(minutes=15)
_LONG = timedelta(hours=1)
_VERY_LONG = timedelta(days=1)

QUOTAS = frozenset({"InstanceLimitExceeded", "MaxSpotInstanceCountExceeded", "VcpuLimitExceeded"})
"""Refusals by a vCPU quota, which counts certain families only: see `cloud_tasks_aws.compute.quotas`."""

NO_FLEETS = frozenset({"MaxFleetCountExceeded", "UnauthorizedOperation", "AccessDenied", "AccessDeniedException"})
"""Codes with which EC2 refuses fleets or launch templates to an account that may launch instances directly."""

_OFFER, _ZONE, _REGION = RefusalScope.OFFER, RefusalScope.ZONE, RefusalScope.REGION
_TYPE, _ACCOUNT = RefusalScope.INSTANCE_TYPE, RefusalScope.ACCOUNT


def _person(code: str, scope: RefusalScope, time: timedelta, hint: str, *, message: str = "") -> ErrorRule:
    """Return a refusal whose cause only a person can remove."""
    return refused(code, scope, time, message=message, hint=hint, needs_action=True)


_DENIED = "UnauthorizedOperation|AccessDenied(Exception)?|403"
_CAPACITY = (
    refused("InsufficientFreeAddressesInSubnet", _ZONE, _MEDIUM, hint="use a larger subnet, or more: aws.subnets"),
    refused("InsufficientAddressCapacity", _REGION, _MEDIUM),
    refused(f"{UNTRIED}|ReservationCapacityExceeded|IdempotentInstanceTerminated|Insufficient.*", _OFFER, _SHORT),
    refused("SpotMaxPriceTooLow", _OFFER, _MEDIUM),
    # Code of a fleet for a type that the zone does not offer, where RunInstances answers "Unsupported".
    refused("InvalidFleetConfiguration|Unsupported(Operation)?", _OFFER, _VERY_LONG),
    refused("InvalidAvailabilityZone|InvalidZone.NotFound|VolumeTypeNotAvailableInZone", _ZONE, _VERY_LONG),
    refused("InvalidInstanceType|EncryptedVolumesNotSupported|UnsupportedTenancy", _TYPE, _VERY_LONG),
)
_LIMITS = (
    _person(
        "TagLimitExceeded|(SecurityGroup|SecurityGroupsPerIn|RulesPer|VpcLimit|SubnetLimit).*Exceeded",
        _ACCOUNT,
        _SHORT,
        "set aws.security_groups or aws.subnets to existing ones, or request a higher quota",
    ),
    refused(
        "MaxFleetCountExceeded|MaxTemplate.*LimitExceeded",
        _REGION,
        _SHORT,
        hint="request a higher quota of EC2 fleets or launch templates in the Service Quotas console",
    ),
    # A quota counts one provisioning model in one region; the other model may have quota left. Each terminated instance
    # frees quota, so the delay is short.
    refused(
        ".*(LimitExceeded|CountExceeded)(Exception)?",
        _REGION,
        _SHORT,
        hint="request a higher quota in the Service Quotas console, or lower run.max_instances",
    ),
)
_ACCOUNT_STATE = (
    # AWS ends it, within hours.
    refused(
        "PendingVerification", _ACCOUNT, _MEDIUM, hint="AWS is verifying the account; retry later", needs_action=False
    ),
    _person(
        "OptInRequired",
        _ACCOUNT,
        _MEDIUM,
        "complete the sign-up of the account, with a valid payment method: https://aws.amazon.com",
        message="subscribed to this service",
    ),
    _person(
        "OptInRequired", _ACCOUNT, _MEDIUM, "subscribe to the image on the AWS Marketplace, or choose another image"
    ),
    _person("Blocked|AccountDisabled", _ACCOUNT, _LONG, "the account is blocked; contact AWS Support"),
    _person(
        "AuthFailure.ServiceLinkedRoleCreationNotPermitted",
        _REGION,
        _MEDIUM,
        "create the role: aws iam create-service-linked-role --aws-service-name spot.amazonaws.com",
    ),
)
_SETUP = (
    # Organizations deny types, regions and provisioning models; other offers may be allowed.
    _person(
        _DENIED,
        _TYPE,
        _LONG,
        "denied by a policy of the account or its organization, which may demand aws.tags",
        message="explicit deny",
    ),
    _person(_DENIED, _ACCOUNT, _SHORT, "show the required permissions with: cloud-tasks doctor --policy"),
    _person(
        "TagPolicyViolation", _ACCOUNT, _SHORT, "let the tag policy of the organization allow the tags cloud-tasks-*"
    ),
    _person(
        ".*",
        _ACCOUNT,
        _SHORT,
        "check aws.instance_profile with: cloud-tasks doctor",
        message="iamInstanceProfile|instance profile",
    ),
    _person(
        ".*",
        _TYPE,
        _LONG,
        "upgrade the account from the free plan, or set run.instance_types to a type of the free tier",
        message="free tier",
    ),
    refused(".*", _ZONE, _VERY_LONG, message="invalid availability zone"),
    _person(".*", _ACCOUNT, _SHORT, "check aws.security_groups", message="parameter group|security group"),
    _person(".*", _ACCOUNT, _SHORT, "shorten run.startup_script, or set aws.script_location", message="user ?data"),
    _person(
        "InvalidAMIID.*|InvalidSnapshot.*|AuthFailure",
        _ACCOUNT,
        _SHORT,
        "choose another image with run.image: this one is deleted, or not shared with this account",
    ),
    _person(
        "(VPCIdNotSpecified|VPCResourceNotSpecified|DefaultVpcDoesNotExist|InvalidVpcID|MissingInput).*",
        _ACCOUNT,
        _SHORT,
        "create a default VPC with `aws ec2 create-default-vpc`, or set aws.subnets",
    ),
    _person(
        "(InvalidGroup|InvalidKeyPair|InvalidKey|InvalidSubnet|InvalidSecurityGroup|NetworkInterface).*",
        _ACCOUNT,
        _SHORT,
        "check aws.security_groups, aws.subnets and aws.key_name",
    ),
    _person(
        "InvalidKmsKey.*|Kms.*|.*KmsKey.*",
        _ACCOUNT,
        _SHORT,
        "allow the use of the key of encrypted boot disks, or set aws.encrypt_boot_disk to false",
    ),
    _person("UnknownVolumeType", _ACCOUNT, _SHORT, "check run.boot_disk_types"),
    # Image or disk do not fit this type; another type may fit.
    refused("InvalidParameter(Combination|Value)?|InvalidBlockDeviceMapping|InvalidInput|NonEBSInstance", _TYPE, _LONG),
)
_REFUSALS = (*_CAPACITY, TRANSIENT, *_LIMITS, *_ACCOUNT_STATE)
_KNOWN = (*CREDENTIALS, *_REFUSALS, *_SETUP)
_THROTTLED = refused(
    "EC2ThrottledException|RequestLimitExceeded|RequestThrottled(Exception)?|Throttling(Exception)?|SlowDown|"
    "TooManyRequestsException",
    _ACCOUNT,
    timedelta(minutes=1),
    hint="EC2 limits the requests of an account; other programs may use it, too",
)
_UNKNOWN = refused(".*", _TYPE, _MEDIUM)
"""A 4xx error is definite: nothing was started. The cause may be the type, so other types are tried: a call each costs
less than a job that stops."""
_NOT_FOUND = ErrorRule(kind=ErrorKind.NOT_FOUND, code=r".*\.NotFound|InvalidAMIID\..*")
_INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,17}")


def ids_in(error: ClientError) -> frozenset[str]:
    """Return the instance ids in an error message."""
    return frozenset(_INSTANCE_ID.findall(problem_of(error).message))


def is_transient(error: BaseException) -> bool:
    """Return whether a retry may succeed. A refusal is never transient, although EC2 answers some with a 5xx status."""
    if isinstance(error, ClientError):
        found = judge("", problem_of(error), (*_REFUSALS, *RULES))
        return found.transient and not isinstance(found, LaunchRefusedError)
    return isinstance(error, (HTTPClientError, LookupError))


def leaves_open(error: BaseException) -> bool:
    """Return whether a launch with this error may have started an instance; a throttled one has not."""
    return is_transient(error) and matching_rule(problem_of(error), [_THROTTLED]) is None


def is_after_the_token(error: BaseException) -> bool:
    """Return whether EC2 makes this refusal only for a client token that has started nothing: for lack of capacity or
    quota. It refuses unknown or unauthorized callers before it looks at the token."""
    return code_of(error) in QUOTAS or matching_rule(problem_of(error), _CAPACITY) is not None


def widen_unknown(refusal: LaunchRefusedError) -> LaunchRefusedError | None:
    """Widen a refusal whose code no rule knows to every launch, after several types got it; None if a rule knows it."""
    if matching_rule(Problem(code=refusal.reason, message=refusal.message), (_THROTTLED, *_KNOWN)) is not None:
        return None
    return LaunchRefusedError(
        refusal.message,
        scope=_ACCOUNT,
        retry_after=_MEDIUM,
        reason=refusal.reason,
        hint="several instance types were refused so: check the settings of aws and the account",
        needs_action=True,
    )


def is_not_yet_visible(error: BaseException, *, own_groups: bool) -> bool:
    """Return whether a resource created a moment ago is not yet visible ("Eventual consistency", EC2 developer guide).

    Args:
        own_groups: Whether cloud-tasks created the security groups; a missing group of the user's is an error.
    """
    return is_template_unknown(error) or (own_groups and code_of(error) in _GROUP_NOT_FOUND)


def is_template_unknown(error: BaseException) -> bool:
    """Return whether a launch template does not exist, or is not visible yet."""
    return code_of(error).startswith(_TEMPLATE_NOT_FOUND)


def translate_errors(action: str) -> AbstractContextManager[None]:
    """Translate the exceptions of calls into a `ProviderError` whose message starts with ``action``."""
    return errors.translate_errors(action, (_NOT_FOUND, *RULES))


def launch_error(offer: Offer, error: ClientError, *, is_answered: bool = False) -> ProviderError:
    """Return the error of a failed launch: `LaunchRefusedError`, or a transient error with unknown outcome.

    Args:
        is_answered: Whether no earlier call of the launch may have started an instance.
    """
    rules = ([_THROTTLED] if is_answered else []) + [*_KNOWN]
    name = f"{offer.instance_type.name} ({offer.provisioning_model.value}) in {offer.zone}"
    return judge(f"launching {name}", problem_of(error), rules, default=_UNKNOWN)


def preparation_error(error: ProviderError) -> ProviderError:
    """Return the error of a launch whose preparation failed permanently: nothing was started."""
    problem = problem_of(error.__cause__)
    rule = matching_rule(problem, (*_LIMITS, *_ACCOUNT_STATE, *_SETUP))
    if rule is None or rule.retry_after is None or not rule.needs_action:
        return LaunchFailedError(error.message, hint=error.hint)
    # The preparation is the same for all types and zones.
    return LaunchRefusedError(
        error.message,
        scope=_ACCOUNT,
        retry_after=rule.retry_after,
        reason=problem.code,
        hint=rule.hint or error.hint,
        needs_action=True,
    )
