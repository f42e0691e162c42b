"""Translation of EC2 errors: transient, a refusal with its scope, or permanent.

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

from cloud_tasks.errors import CredentialsError, LaunchRefusedError, NotFoundError, ProviderError, RefusalScope
from cloud_tasks.model import Offer
from cloud_tasks_aws.errors import code_of, invalid_response, is_transient_code, one_line, provider_error

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

_DENIED = frozenset({"UnauthorizedOperation", "AccessDenied", "AccessDeniedException"})
_GROUP_NOT_FOUND = frozenset({"InvalidGroup.NotFound", "InvalidSecurityGroupID.NotFound"})
_TEMPLATE_NOT_FOUND = ("InvalidLaunchTemplateName.NotFound", "InvalidLaunchTemplateId.")
_SETTING_CODES = ("InvalidGroup", "InvalidKeyPair", "InvalidSubnetID", "InvalidSecurityGroupID")


@attrs.frozen(kw_only=True)
class _Refusal:
    scope: RefusalScope
    retry_after: timedelta
    hint: str = ""


_SHORT = timedelta(minutes=5)
"""Also for causes that a person has to fix: a waiting job costs nothing and should resume soon after the fix."""
_MEDIUM = timedelta(minutes=15)
_LONG = timedelta(hours=1)
_VERY_LONG = timedelta(days=1)
_QUOTA_HINT = "request a higher quota in the Service Quotas console, or lower run.max_instances"
_OFFER_FULL = _Refusal(scope=RefusalScope.OFFER, retry_after=_SHORT)
# A quota counts one provisioning model in one region; the other model may have quota left. Each terminated instance
# frees quota, so the delay is short.
_QUOTA_FULL = _Refusal(scope=RefusalScope.REGION, retry_after=_SHORT, hint=_QUOTA_HINT)

QUOTAS = frozenset({"InstanceLimitExceeded", "MaxSpotInstanceCountExceeded", "VcpuLimitExceeded"})
"""Refusals by a vCPU quota, which counts certain families only: see `cloud_tasks_aws.compute.quotas`."""

_REFUSALS: Mapping[str, _Refusal] = {
    UNTRIED: _OFFER_FULL,
    "ReservationCapacityExceeded": _OFFER_FULL,
    "SpotMaxPriceTooLow": _Refusal(scope=RefusalScope.OFFER, retry_after=_MEDIUM),
    # Code of a fleet for a type that the zone does not offer, where RunInstances answers "Unsupported".
    "InvalidFleetConfiguration": _Refusal(scope=RefusalScope.OFFER, retry_after=_VERY_LONG),
    "Unsupported": _Refusal(scope=RefusalScope.OFFER, retry_after=_VERY_LONG),
    "UnsupportedOperation": _Refusal(scope=RefusalScope.OFFER, retry_after=_VERY_LONG),
    "InsufficientFreeAddressesInSubnet": _Refusal(scope=RefusalScope.ZONE, retry_after=_MEDIUM),
    "InsufficientAddressCapacity": _Refusal(scope=RefusalScope.REGION, retry_after=_MEDIUM),
    "InvalidAvailabilityZone": _Refusal(scope=RefusalScope.ZONE, retry_after=_VERY_LONG),
    "InvalidInstanceType": _Refusal(scope=RefusalScope.INSTANCE_TYPE, retry_after=_VERY_LONG),
    "SpotInstanceCountLimitExceeded": _QUOTA_FULL,
    **dict.fromkeys(QUOTAS, _QUOTA_FULL),
    # Refusals of the whole account: no other offer can succeed.
    "PendingVerification": _Refusal(
        scope=RefusalScope.ACCOUNT, retry_after=_MEDIUM, hint="AWS is verifying the account; retry later"
    ),
    "OptInRequired": _Refusal(
        scope=RefusalScope.ACCOUNT,
        retry_after=_MEDIUM,
        hint="subscribe to the image on the AWS Marketplace, or choose another image",
    ),
    "Blocked": _Refusal(
        scope=RefusalScope.ACCOUNT, retry_after=_LONG, hint="the account is blocked; contact AWS Support"
    ),
    "AuthFailure.ServiceLinkedRoleCreationNotPermitted": _Refusal(
        scope=RefusalScope.REGION,
        retry_after=_MEDIUM,
        hint="create the role: aws iam create-service-linked-role --aws-service-name spot.amazonaws.com",
    ),
}
_INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,17}")


def _refusal_for(code: str) -> _Refusal | None:
    """Return the refusal for a code, or None; unlisted capacity and quota codes are recognized by their form."""
    if code in _REFUSALS:
        return _REFUSALS[code]
    if code.startswith("Insufficient"):
        return _OFFER_FULL
    if code.endswith(("LimitExceeded", "CountExceeded")) and not is_transient_code(code):
        return _QUOTA_FULL
    return None


def ids_in(error: ClientError) -> frozenset[str]:
    """Return the instance ids in an error message."""
    return frozenset(_INSTANCE_ID.findall(_message(error)))


def is_transient(error: BaseException) -> bool:
    """Return whether a retry may succeed. A refusal is never transient, although EC2 answers some with a 5xx status."""
    if isinstance(error, ClientError):
        return _refusal_for(code_of(error)) is None and provider_error("", error).transient
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
    code = code_of(error)
    name = f"{offer.instance_type.name} ({offer.provisioning_model.value}) in {offer.zone}"
    refusal = _refusal_for(code) or _setup_refusal(code, _message(error))
    if refusal is not None:
        return _launch_refused(name, error, refusal)
    translated_error = _to_provider_error(f"launching {name}", error)
    if translated_error.transient or isinstance(translated_error, CredentialsError):
        return translated_error
    # A 4xx error is definite: nothing was started. The cause may be the type, so other types are tried: a call each
    # costs less than a job that stops.
    cause = _Refusal(scope=RefusalScope.INSTANCE_TYPE, retry_after=_MEDIUM, hint=translated_error.hint)
    return _launch_refused(name, error, cause)


def _setup_refusal(code: str, message: str) -> _Refusal | None:
    """Return the refusal caused by permissions, settings, the image or the disk, or None."""
    if code in _DENIED and "explicit deny" in message:
        # Organizations deny types, regions and provisioning models; other offers may be allowed.
        hint = "denied by a policy of the account or its organization"
        return _Refusal(scope=RefusalScope.INSTANCE_TYPE, retry_after=_LONG, hint=hint)
    if code in _DENIED:
        hint = "show the required permissions with: cloud-tasks doctor --policy"
        return _Refusal(scope=RefusalScope.ACCOUNT, retry_after=_SHORT, hint=hint)
    if "iamInstanceProfile" in message:
        hint = "check aws.instance_profile with: cloud-tasks doctor"
        return _Refusal(scope=RefusalScope.ACCOUNT, retry_after=_SHORT, hint=hint)
    if code.startswith("InvalidAMIID") or code in ("InvalidParameterCombination", "InvalidParameterValue"):
        # Image or disk do not fit this type; another type may fit.
        return _Refusal(scope=RefusalScope.INSTANCE_TYPE, retry_after=_LONG)
    if code.startswith(_SETTING_CODES):
        hint = "check aws.security_groups, aws.subnets and aws.key_name"
        return _Refusal(scope=RefusalScope.ACCOUNT, retry_after=_SHORT, hint=hint)
    return None


def _launch_refused(name: str, error: ClientError, known: _Refusal) -> LaunchRefusedError:
    code = code_of(error)
    return LaunchRefusedError(
        f"EC2 refused to launch {name}: {code}: {_message(error)}",
        scope=known.scope,
        retry_after=known.retry_after,
        reason=code,
        hint=known.hint,
    )


def _to_provider_error(action: str, error: ClientError | BotoCoreError) -> ProviderError:
    code = code_of(error)
    if isinstance(error, ClientError) and code.endswith(".NotFound"):
        return NotFoundError(f"{action}: {code}: {_message(error)}")
    return provider_error(action, error)


def _message(error: ClientError) -> str:
    return one_line(str(error.response.get("Error", {}).get("Message", "")))
