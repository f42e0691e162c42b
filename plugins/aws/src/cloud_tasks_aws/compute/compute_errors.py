"""Translation of EC2 errors: transient, a refusal with its scope, or permanent.

Codes: "Error codes for the Amazon EC2 API". No botocore exception leaves this package.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.parsers import ResponseParserError

from cloud_tasks.errors import LaunchRefusedError, ProviderError, RefusalScope
from cloud_tasks.model import Offer
from cloud_tasks.plugin.kit import ErrorKind, ErrorRule, judge, refused
from cloud_tasks_aws.errors import CREDENTIALS, RULES, TRANSIENT, code_of, invalid_response, problem_of, provider_error

__all__ = [
    "QUOTAS",
    "UNTRIED",
    "code_of",
    "ids_in",
    "is_not_yet_visible",
    "is_transient",
    "launch_error",
    "translate_errors",
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
_QUOTA_HINT = "request a higher quota in the Service Quotas console, or lower run.max_instances"

QUOTAS = frozenset({"InstanceLimitExceeded", "MaxSpotInstanceCountExceeded", "VcpuLimitExceeded"})
"""Refusals by a vCPU quota, which counts certain families only: see `cloud_tasks_aws.compute.quotas`."""

_REFUSALS = (
    # Code of a fleet for a type that the zone does not offer, where RunInstances answers "Unsupported".
    refused("InvalidFleetConfiguration|Unsupported(Operation)?", RefusalScope.OFFER, _VERY_LONG),
    refused("SpotMaxPriceTooLow", RefusalScope.OFFER, _MEDIUM),
    refused("InsufficientFreeAddressesInSubnet", RefusalScope.ZONE, _MEDIUM),
    refused("InsufficientAddressCapacity", RefusalScope.REGION, _MEDIUM),
    refused("InvalidAvailabilityZone", RefusalScope.ZONE, _VERY_LONG),
    refused("InvalidInstanceType", RefusalScope.INSTANCE_TYPE, _VERY_LONG),
    refused(f"{UNTRIED}|ReservationCapacityExceeded|Insufficient.*", RefusalScope.OFFER, _SHORT),
    TRANSIENT,
    # A quota counts one provisioning model in one region; the other model may have quota left. Each terminated instance
    # frees quota, so the delay is short.
    refused(".*(LimitExceeded|CountExceeded)", RefusalScope.REGION, _SHORT, hint=_QUOTA_HINT),
    # Refusals of the whole account: no other offer can succeed.
    refused("PendingVerification", RefusalScope.ACCOUNT, _MEDIUM, hint="AWS is verifying the account; retry later"),
    refused(
        "OptInRequired",
        RefusalScope.ACCOUNT,
        _MEDIUM,
        hint="subscribe to the image on the AWS Marketplace, or choose another image",
    ),
    refused("Blocked", RefusalScope.ACCOUNT, _LONG, hint="the account is blocked; contact AWS Support"),
    refused(
        "AuthFailure.ServiceLinkedRoleCreationNotPermitted",
        RefusalScope.REGION,
        _MEDIUM,
        hint="create the role: aws iam create-service-linked-role --aws-service-name spot.amazonaws.com",
    ),
)
"""Lack of capacity or quota, and refusals of the account."""
_DENIED = "UnauthorizedOperation|AccessDenied(Exception)?"
_POLICY = "show the required permissions with: cloud-tasks doctor --policy"
_SETUP = (
    # Organizations deny types, regions and provisioning models; other offers may be allowed.
    refused(
        _DENIED,
        RefusalScope.INSTANCE_TYPE,
        _LONG,
        message="explicit deny",
        hint="denied by a policy of the account or its organization",
    ),
    refused(_DENIED, RefusalScope.ACCOUNT, _SHORT, hint=_POLICY),
    refused(
        ".*",
        RefusalScope.ACCOUNT,
        _SHORT,
        message="iamInstanceProfile",
        hint="check aws.instance_profile with: cloud-tasks doctor",
    ),
    refused("403|InvalidSecurity", RefusalScope.INSTANCE_TYPE, _MEDIUM, hint=_POLICY),
    # Image or disk do not fit this type; another type may fit.
    refused("InvalidAMIID.*|InvalidParameterCombination|InvalidParameterValue", RefusalScope.INSTANCE_TYPE, _LONG),
    refused(
        "(InvalidGroup|InvalidKeyPair|InvalidSubnetID|InvalidSecurityGroupID).*",
        RefusalScope.ACCOUNT,
        _SHORT,
        hint="check aws.security_groups, aws.subnets and aws.key_name",
    ),
)
"""Refusals caused by permissions, settings, the image or the disk."""
_UNKNOWN = refused(".*", RefusalScope.INSTANCE_TYPE, _MEDIUM)
"""A 4xx error is definite: nothing was started. The cause may be the type, so other types are tried: a call each costs
less than a job that stops."""
_NOT_FOUND = ErrorRule(kind=ErrorKind.NOT_FOUND, code=r".*\.NotFound")
_INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,17}")


def ids_in(error: ClientError) -> frozenset[str]:
    """Return the instance ids in an error message."""
    return frozenset(_INSTANCE_ID.findall(problem_of(error).message))


def is_transient(error: BaseException) -> bool:
    """Return whether a retry may succeed. A refusal is never transient, although EC2 answers some with a 5xx status."""
    if isinstance(error, ClientError):
        found = judge("", problem_of(error), (*_REFUSALS, *RULES))
        return found.transient and not isinstance(found, LaunchRefusedError)
    return isinstance(error, (HTTPClientError, ResponseParserError))


def is_not_yet_visible(error: BaseException, *, own_groups: bool) -> bool:
    """Return whether a resource created a moment ago is not yet visible ("Eventual consistency", EC2 developer guide).

    Args:
        own_groups: Whether cloud-tasks created the security groups; a missing group of the user's is an error.
    """
    code = code_of(error)
    return code.startswith(_TEMPLATE_NOT_FOUND) or (own_groups and code in _GROUP_NOT_FOUND)


@contextmanager
def translate_errors(action: str) -> Iterator[None]:
    """Translate botocore exceptions into a `ProviderError` whose message starts with ``action``."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise _to_provider_error(action, error) from error
    except ResponseParserError as error:
        raise invalid_response(action, error) from error


def launch_error(offer: Offer, error: ClientError) -> ProviderError:
    """Return the error of a failed launch: `LaunchRefusedError`, or a transient error with unknown outcome."""
    name = f"{offer.instance_type.name} ({offer.provisioning_model.value}) in {offer.zone}"
    return judge(
        f"launching {name}", problem_of(error), (*_REFUSALS, *_SETUP, *CREDENTIALS, TRANSIENT), default=_UNKNOWN
    )


def _to_provider_error(action: str, error: ClientError | BotoCoreError) -> ProviderError:
    if isinstance(error, ClientError):
        return judge(action, problem_of(error), (_NOT_FOUND, *RULES))
    return provider_error(action, error)
