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

from cloud_tasks.errors import LaunchRefusedError, NotFoundError, ProviderError, RefusalScope
from cloud_tasks.model import Offer
from cloud_tasks_aws.failures import code_of, is_passing, meaning, not_understood, one_line

__all__ = ["QUOTAS", "UNTRIED", "code_of", "ids_in", "passing", "refused", "translated", "unknown_yet"]

UNTRIED = "UnfulfillableCapacity"
"""What a fleet says of an offer that it did not come to, or has no other word for."""

_DENIED = frozenset({"UnauthorizedOperation", "AccessDenied", "AccessDeniedException"})
_OF_A_GROUP = frozenset({"InvalidGroup.NotFound", "InvalidSecurityGroupID.NotFound"})
_OF_A_TEMPLATE = ("InvalidLaunchTemplateName.NotFound", "InvalidLaunchTemplateId.")
_OF_A_SETTING = ("InvalidGroup", "InvalidKeyPair", "InvalidSubnetID", "InvalidSecurityGroupID")


@attrs.frozen(kw_only=True)
class _Refusal:
    scope: RefusalScope
    away: timedelta
    hint: str = ""


_NOW_AND_THEN = timedelta(minutes=5)
"""Also for what a person has to mend: the job waits, costs nothing, and should go on soon after it was mended."""
_LATER = timedelta(minutes=15)
_LONG = timedelta(hours=1)
_FOR_GOOD = timedelta(days=1)
_QUOTA_HINT = "ask for a higher quota in the Service Quotas console, or lower run.max_instances"
_OFFER_FULL = _Refusal(scope=RefusalScope.OFFER, away=_NOW_AND_THEN)
# A quota counts one way of buying, in one region: the other may still have room. Room comes back with every instance
# that ends, so the wait is short.
_QUOTA_FULL = _Refusal(scope=RefusalScope.REGION, away=_NOW_AND_THEN, hint=_QUOTA_HINT)

QUOTAS = frozenset({"InstanceLimitExceeded", "MaxSpotInstanceCountExceeded", "VcpuLimitExceeded"})
"""Refusals by a quota of vCPUs, which counts some families only: see `cloud_tasks_aws.compute.quotas`."""

_REFUSALS: Mapping[str, _Refusal] = {
    UNTRIED: _OFFER_FULL,
    "ReservationCapacityExceeded": _OFFER_FULL,
    "SpotMaxPriceTooLow": _Refusal(scope=RefusalScope.OFFER, away=_LATER),
    # What a fleet says of a type that the zone does not have, where RunInstances says "Unsupported".
    "InvalidFleetConfiguration": _Refusal(scope=RefusalScope.OFFER, away=_FOR_GOOD),
    "Unsupported": _Refusal(scope=RefusalScope.OFFER, away=_FOR_GOOD),
    "UnsupportedOperation": _Refusal(scope=RefusalScope.OFFER, away=_FOR_GOOD),
    "InsufficientFreeAddressesInSubnet": _Refusal(scope=RefusalScope.ZONE, away=_LATER),
    "InsufficientAddressCapacity": _Refusal(scope=RefusalScope.REGION, away=_LATER),
    "InvalidAvailabilityZone": _Refusal(scope=RefusalScope.ZONE, away=_FOR_GOOD),
    "InvalidInstanceType": _Refusal(scope=RefusalScope.INSTANCE_TYPE, away=_FOR_GOOD),
    "SpotInstanceCountLimitExceeded": _QUOTA_FULL,
    **dict.fromkeys(QUOTAS, _QUOTA_FULL),
    # The whole account, and nothing that the job could do otherwise.
    "PendingVerification": _Refusal(
        scope=RefusalScope.ACCOUNT, away=_LATER, hint="the account is being verified by AWS; try again later"
    ),
    "OptInRequired": _Refusal(
        scope=RefusalScope.ACCOUNT, away=_LATER, hint="subscribe to the image on the AWS Marketplace, or choose another"
    ),
    "Blocked": _Refusal(scope=RefusalScope.ACCOUNT, away=_LONG, hint="the account is blocked; contact AWS Support"),
    "AuthFailure.ServiceLinkedRoleCreationNotPermitted": _Refusal(
        scope=RefusalScope.REGION,
        away=_LATER,
        hint="create it once: aws iam create-service-linked-role --aws-service-name spot.amazonaws.com",
    ),
}
_INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,17}")


def _known(code: str) -> _Refusal | None:
    """What a code is known to mean; new ones of the two kinds that there are many of are told by their form."""
    if code in _REFUSALS:
        return _REFUSALS[code]
    if code.startswith("Insufficient"):
        return _OFFER_FULL
    if code.endswith(("LimitExceeded", "CountExceeded")) and not is_passing(code):
        return _QUOTA_FULL
    return None


def ids_in(error: ClientError) -> frozenset[str]:
    """The instance ids that an error message names."""
    return frozenset(_INSTANCE_ID.findall(_message(error)))


def passing(error: BaseException) -> bool:
    """Whether the same call may succeed a moment later. A refusal never counts, though EC2 answers some with a 5xx."""
    if isinstance(error, ClientError):
        return _known(code_of(error)) is None and meaning("", error).transient
    return isinstance(error, (HTTPClientError, ResponseParserError))


def unknown_yet(error: BaseException, *, own_groups: bool) -> bool:
    """Whether EC2 has no word yet of what was made a moment ago ("Eventual consistency", EC2 developer guide).

    Args:
        own_groups: Whether the security groups of a launch are ours; the user's are there, or are a mistake.
    """
    code = code_of(error)
    return code.startswith(_OF_A_TEMPLATE) or (own_groups and code in _OF_A_GROUP)


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
    """What a failed launch means: a `LaunchRefusedError`, or trouble that may pass and says nothing of the launch."""
    code = code_of(error)
    name = f"{offer.instance_type.name} ({offer.purchase.value}) in {offer.zone}"
    judged = _known(code) or _of_the_setup(code, _message(error))
    if judged is not None:
        return _refusal(name, error, judged)
    meant = _translate(f"launching {name}", error)
    if meant.transient:
        return meant
    # An error of the caller's side is an answer: nothing was started. Whether it is the type's fault is not known; to
    # try the others costs a call each, to try none may cost the job.
    return _refusal(name, error, _Refusal(scope=RefusalScope.INSTANCE_TYPE, away=_LATER, hint=meant.hint))


def _of_the_setup(code: str, message: str) -> _Refusal | None:
    """A refusal that a person has to mend, or that an image or a disk is the reason of."""
    if code in _DENIED and "explicit deny" in message:
        # Organizations forbid types, regions and ways of buying; what is not forbidden is still to be had.
        hint = "a policy of the account or its organization forbids it"
        return _Refusal(scope=RefusalScope.INSTANCE_TYPE, away=_LONG, hint=hint)
    if code in _DENIED:
        hint = "see what the controller may need: cloud-tasks doctor --policy"
        return _Refusal(scope=RefusalScope.ACCOUNT, away=_NOW_AND_THEN, hint=hint)
    if "iamInstanceProfile" in message:
        hint = "check aws.instance_profile: cloud-tasks doctor"
        return _Refusal(scope=RefusalScope.ACCOUNT, away=_NOW_AND_THEN, hint=hint)
    if code.startswith("InvalidAMIID") or code in ("InvalidParameterCombination", "InvalidParameterValue"):
        # The image or the disk does not fit this type; another type may do.
        return _Refusal(scope=RefusalScope.INSTANCE_TYPE, away=_LONG)
    if code.startswith(_OF_A_SETTING):
        hint = "check security_groups, subnets and key_name of the section aws"
        return _Refusal(scope=RefusalScope.ACCOUNT, away=_NOW_AND_THEN, hint=hint)
    return None


def _refusal(name: str, error: ClientError, known: _Refusal) -> LaunchRefusedError:
    code = code_of(error)
    return LaunchRefusedError(
        f"EC2 will not start {name}: {code}: {_message(error)}",
        scope=known.scope,
        retry_after=known.away,
        reason=code,
        hint=known.hint,
    )


def _translate(doing: str, error: ClientError | BotoCoreError) -> ProviderError:
    code = code_of(error)
    if isinstance(error, ClientError) and code.endswith(".NotFound"):
        return NotFoundError(f"{doing}: {code}: {_message(error)}")
    return meaning(doing, error)


def _message(error: ClientError) -> str:
    return one_line(str(error.response.get("Error", {}).get("Message", "")))
