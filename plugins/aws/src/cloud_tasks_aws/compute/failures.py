"""What EC2's error codes mean to a job: passing trouble, a refusal with a scope, or a mistake of ours or the user's.

Codes: "Error codes for the Amazon EC2 API". No botocore exception leaves this package.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

import attrs
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.parsers import ResponseParserError

from cloud_tasks.errors import LaunchRefused, NotFound, ProviderError, RefusalScope
from cloud_tasks.model import Offer
from cloud_tasks_aws.failures import code_of, meaning, not_understood, one_line

__all__ = ["code_of", "ids_in", "passing", "refused", "translated"]

_DENIED = frozenset({"UnauthorizedOperation", "AccessDenied", "AccessDeniedException"})


@attrs.frozen(kw_only=True)
class _Refusal:
    scope: RefusalScope
    away: timedelta
    hint: str = ""


_NOW_AND_THEN = timedelta(minutes=5)
_LATER = timedelta(minutes=15)
_LONG = timedelta(hours=1)
_FOR_GOOD = timedelta(days=1)
_QUOTA_HINT = "ask for a higher quota in the Service Quotas console, or lower run.max_instances"

_REFUSALS: Mapping[str, _Refusal] = {
    "InsufficientInstanceCapacity": _Refusal(scope=RefusalScope.OFFER, away=_NOW_AND_THEN),
    "InsufficientHostCapacity": _Refusal(scope=RefusalScope.OFFER, away=_NOW_AND_THEN),
    "InsufficientCapacity": _Refusal(scope=RefusalScope.OFFER, away=_NOW_AND_THEN),
    "InsufficientReservedInstanceCapacity": _Refusal(scope=RefusalScope.OFFER, away=_NOW_AND_THEN),
    "SpotMaxPriceTooLow": _Refusal(scope=RefusalScope.OFFER, away=_LATER),
    "Unsupported": _Refusal(scope=RefusalScope.OFFER, away=_FOR_GOOD),
    "UnsupportedOperation": _Refusal(scope=RefusalScope.OFFER, away=_FOR_GOOD),
    "InsufficientFreeAddressesInSubnet": _Refusal(scope=RefusalScope.ZONE, away=_LATER),
    "InsufficientAddressCapacity": _Refusal(scope=RefusalScope.REGION, away=_LATER),
    "InvalidAvailabilityZone": _Refusal(scope=RefusalScope.ZONE, away=_FOR_GOOD),
    "InvalidInstanceType": _Refusal(scope=RefusalScope.INSTANCE_TYPE, away=_FOR_GOOD),
    # A quota counts one way of buying, in one region: the other may still have room.
    "VcpuLimitExceeded": _Refusal(scope=RefusalScope.REGION, away=_LATER, hint=_QUOTA_HINT),
    "InstanceLimitExceeded": _Refusal(scope=RefusalScope.REGION, away=_LATER, hint=_QUOTA_HINT),
    "MaxSpotInstanceCountExceeded": _Refusal(scope=RefusalScope.REGION, away=_LATER, hint=_QUOTA_HINT),
    "SpotInstanceCountLimitExceeded": _Refusal(scope=RefusalScope.REGION, away=_LATER, hint=_QUOTA_HINT),
    "VolumeLimitExceeded": _Refusal(scope=RefusalScope.REGION, away=_LATER, hint=_QUOTA_HINT),
    "MaxIOPSLimitExceeded": _Refusal(scope=RefusalScope.REGION, away=_LATER, hint=_QUOTA_HINT),
    "PendingVerification": _Refusal(
        scope=RefusalScope.ACCOUNT, away=_LATER, hint="the account is being verified by AWS; try again later"
    ),
    "AuthFailure.ServiceLinkedRoleCreationNotPermitted": _Refusal(
        scope=RefusalScope.REGION,
        away=_LONG,
        hint="create it once: aws iam create-service-linked-role --aws-service-name spot.amazonaws.com",
    ),
    "OptInRequired": _Refusal(
        scope=RefusalScope.ACCOUNT, away=_LONG, hint="subscribe to the image on the AWS Marketplace, or choose another"
    ),
    "Blocked": _Refusal(scope=RefusalScope.ACCOUNT, away=_LONG, hint="the account is blocked; contact AWS Support"),
}
_INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,17}")


def ids_in(error: ClientError) -> frozenset[str]:
    """The instance ids that an error message names."""
    return frozenset(_INSTANCE_ID.findall(_message(error)))


def passing(error: Exception) -> bool:
    """Whether the same call may succeed a moment later. A refusal never counts, though EC2 answers some with a 5xx."""
    if isinstance(error, ClientError):
        return code_of(error) not in _REFUSALS and meaning("", error).transient
    return isinstance(error, (HTTPClientError, ResponseParserError))


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn what botocore raises inside into a `ProviderError` that begins with ``doing``."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise _translate(doing, error) from error
    except ResponseParserError as error:
        raise not_understood(doing, error) from error


def refused(offer: Offer, error: ClientError) -> ProviderError:
    """What a failed launch means: a `LaunchRefused`, or trouble that may pass and says nothing of the launch."""
    code = code_of(error)
    name = f"{offer.instance_type.name} ({offer.purchase.value}) in {offer.zone}"
    known = _REFUSALS.get(code)
    if known is not None:
        return _refusal(name, error, known)
    if code in _DENIED:
        hint = "see what the controller may need: cloud-tasks doctor --policy"
        return _refusal(name, error, _Refusal(scope=RefusalScope.ACCOUNT, away=_LONG, hint=hint))
    if "iamInstanceProfile" in _message(error):
        hint = "check aws.instance_profile: cloud-tasks doctor"
        return _refusal(name, error, _Refusal(scope=RefusalScope.ACCOUNT, away=_LONG, hint=hint))
    if code.startswith("InvalidAMIID") or code in ("InvalidParameterCombination", "InvalidParameterValue"):
        # The image or the disk does not fit this type; another type may do.
        return _refusal(name, error, _Refusal(scope=RefusalScope.INSTANCE_TYPE, away=_LONG))
    if code.startswith(("InvalidGroup", "InvalidKeyPair", "InvalidSubnetID", "InvalidSecurityGroupID")):
        hint = "check security_groups, subnets and key_name of the section aws"
        return _refusal(name, error, _Refusal(scope=RefusalScope.ACCOUNT, away=_LONG, hint=hint))
    meant = _translate(f"launching {name}", error)
    if meant.transient:
        return meant
    # An error of the caller's side is an answer: nothing was started, and nothing else would be.
    return _refusal(name, error, _Refusal(scope=RefusalScope.ACCOUNT, away=_LONG, hint=meant.hint))


def _refusal(name: str, error: ClientError, known: _Refusal) -> LaunchRefused:
    code = code_of(error)
    return LaunchRefused(
        f"EC2 will not start {name}: {code}: {_message(error)}",
        scope=known.scope,
        retry_after=known.away,
        reason=code,
        hint=known.hint,
    )


def _translate(doing: str, error: ClientError | BotoCoreError) -> ProviderError:
    code = code_of(error)
    if isinstance(error, ClientError) and code.endswith(".NotFound"):
        return NotFound(f"{doing}: {code}: {_message(error)}")
    return meaning(doing, error)


def _message(error: ClientError) -> str:
    return one_line(str(error.response.get("Error", {}).get("Message", "")))
