"""Sessions and clients of boto3: credentials, endpoints and retries. The only place that creates boto3 clients.

Invariants, each with a test:

1. Explicit keys are complete or refused; they are never combined with keys of another source.
2. A credentials file that other users of this machine can read is refused before it is read.
3. Keys never appear in an error, a log line or a ``repr``.
4. A client is thread-safe; the session that created it belongs to one thread and is discarded.
5. Credentials that AWS refuses are read again, once per refusal, and the call is repeated with new ones. So are
   missing ones: botocore looks for them only when a client is created, when the metadata service may be down.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import stat
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import boto3
import botocore.loaders
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ProfileNotFound, UnknownRegionError

from cloud_tasks.errors import InputError, ProviderError
from cloud_tasks.plugin import LocationContext
from cloud_tasks_aws.renewed_credentials import RenewedCredentials
from cloud_tasks_aws.responses import check_responses
from cloud_tasks_aws.settings import AwsSettings

__all__ = [
    "client",
    "endpoint_of",
    "identity_of",
    "locate_compute",
    "locate_queue",
    "location_of",
    "partition_of",
    "region_for",
    "session",
]

_making = threading.RLock()
"""Sessions share a cache of service descriptions that is not thread-safe."""

_OWN_SETTINGS = {
    "ec2": "ec2_endpoint",
    "pricing": "pricing_endpoint",
    "s3": "s3_endpoint",
    "sqs": "sqs_endpoint",
}
_REGION = re.compile(r"[a-z]{2,}(?:-[a-z]+)+-[0-9]+")
"""``us-east-1``, ``us-gov-west-1``, ``eusc-de-east-1``; not ``us-central1`` or ``eastus``."""
_REGIONAL_S3 = re.compile(r"https://s3\.([\w.-]+\.)?amazonaws\.")
_ATTEMPTS = 8
_CONNECT_SECONDS = 5
_READ_SECONDS = 60


def client(
    settings: AwsSettings,
    service: str,
    region: str | None = None,
    *,
    connections: int = 10,
    read_timeout: float = _READ_SECONDS,
    attempts: int = _ATTEMPTS,
) -> Any:
    """Return a thread-safe client of one service.

    Args:
        settings: Credentials and endpoints.
        service: boto3's name of the service: ``sqs``, ``ec2``.
        region: The job's region; see `region_for`.
        connections: Maximum concurrent calls.
        read_timeout: Seconds without a response after which a call fails; must exceed the wait of a long poll.
        attempts: Maximum attempts per call, the first included.

    Raises:
        InputError: Credentials in the settings are incomplete or invalid.
        ProviderError: No region is configured, or the SDK's own configuration is invalid.
    """
    config = Config(
        retries={"mode": "adaptive", "total_max_attempts": attempts},
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=read_timeout,
        max_pool_connections=connections,
        tcp_keepalive=True,
        user_agent_extra="cloud-tasks",
        # Presigned S3 URLs use signature version 2 unless set here, which new buckets refuse.
        signature_version="s3v4" if service == "s3" else None,
        # With the default style they name the global endpoint, which redirects to the region of a new bucket.
        s3={"addressing_style": "virtual", "us_east_1_regional_endpoint": "regional"} if service == "s3" else None,
    )
    with _making:
        new_session: Any = session(settings, region_for(settings, region))
        try:
            renewed = _renew(settings, new_session)
            made = new_session.client(service, config=config, endpoint_url=endpoint_of(settings, service))
            if service == "s3" and not _REGIONAL_S3.match(made.meta.endpoint_url):
                # Not every other endpoint has a host name for each bucket.
                config = config.merge(Config(s3={"addressing_style": "path"}))
                made = new_session.client(service, config=config, endpoint_url=endpoint_of(settings, service))
            if renewed is not None:
                made.meta.events.register_first("needs-retry", renewed.retry)
            return made
        except (BotoCoreError, ValueError) as error:
            raise ProviderError(f"cannot create the AWS client for {service}: {_first_line(error)}") from error


def _renew(settings: AwsSettings, new_session: Any) -> RenewedCredentials | None:
    """Let a session's clients read credentials again when AWS refuses them, or when there were none."""
    if settings.access_key:
        return None

    def read() -> Iterator[Any]:
        with _making:
            yield session(settings).get_credentials()
            # The environment of a running process does not change; its profile may have a new login.
            profile = settings.profile or os.environ.get("AWS_PROFILE") or "default"
            yield session(attrs.evolve(settings, profile=profile)).get_credentials()

    renewed = RenewedCredentials(new_session.get_credentials(), read)
    new_session._session._credentials = renewed
    return renewed


def session(settings: AwsSettings, region: str | None = None) -> boto3.Session:
    """Return a new session; not to be shared between threads.

    Raises:
        InputError: Credentials in the settings are incomplete or invalid, or the profile does not exist.
        ProviderError: The SDK's own configuration is invalid.
    """
    explicit = _explicit_keys(settings)
    base = botocore.session.Session()
    base.register_component("data_loader", _service_descriptions())
    check_responses(base)
    profile = settings.profile
    if explicit is None and settings.credentials_file is not None:
        _refuse_if_exposed(settings.credentials_file)
        base.set_config_variable("credentials_file", str(settings.credentials_file))
        # An explicit profile makes the SDK prefer the file to keys in the environment.
        profile = profile or os.environ.get("AWS_PROFILE") or "default"
    try:
        new_session = boto3.Session(
            botocore_session=base,
            profile_name=None if explicit else profile,
            region_name=region or os.environ.get("AWS_REGION"),
            **(explicit or {}),
        )
        profile_name = None if explicit else profile or os.environ.get("AWS_PROFILE")
        # The SDK would report a missing profile only at the first call.
        if profile_name and profile_name not in new_session.available_profiles:
            raise _no_profile(profile_name, settings)
        _ = new_session.region_name
    except ProfileNotFound as error:
        raise _no_profile(str(error.kwargs.get("profile", "")), settings) from error
    except BotoCoreError as error:
        raise ProviderError(f"invalid AWS configuration: {_first_line(error)}") from error
    return new_session


def _no_profile(name: str, settings: AwsSettings) -> InputError:
    where = f" in {settings.credentials_file}" if settings.credentials_file else ""
    return InputError(f'AWS profile "{name}" not found{where}', hint="list profiles with: aws configure list-profiles")


@functools.cache
def _service_descriptions() -> botocore.loaders.Loader:
    """Return the loader that all sessions share; each session would otherwise read the files for tens of ms."""
    return botocore.loaders.create_loader()


def region_for(settings: AwsSettings, region: str | None = None, zone: str | None = None) -> str:
    """Return the AWS region: the job's, the zone's, ``aws.region``, or the SDK's configured region.

    Args:
        region: The job's region, which may be another provider's when only part of the job runs on AWS.

    Raises:
        InputError: No AWS region is configured, or the job's is not one of AWS.
    """
    in_zone = _REGION.match(zone or "")
    given = region or (in_zone[0] if in_zone else None)
    if given and _REGION.fullmatch(given):
        return given
    if settings.region:
        return settings.region
    if given:
        raise InputError(f'"{given}" is not an AWS region', hint="set aws.region when only part of the job runs on AWS")
    found = session(settings).region_name
    if not found:
        raise InputError(
            "no AWS region is configured",
            hint="set run.region or aws.region, add --region, or set the variable AWS_REGION",
        )
    return str(found)


@functools.cache
def partition_of(region: str) -> str:
    """Return the partition, with whose name the ARNs of its regions start: ``aws``, ``aws-cn``, ``aws-us-gov``."""
    try:
        return str(botocore.session.Session().get_partition_for_region(region))
    except UnknownRegionError:
        return "aws"


def location_of(
    settings: AwsSettings, service: str, *, region: str | None = None, zone: str | None = None
) -> dict[str, str]:
    """Return the region of a service, and the account unless AWS cannot be asked (STS `GetCallerIdentity`, free).

    A service with an endpoint of its own is an emulator or private, whose account AWS's STS does not know.

    Raises:
        ProviderError: No region is configured.
    """
    found = {"region": region_for(settings, region, zone)}
    if endpoint_of(settings, service) == endpoint_of(settings, "sts"):
        try:
            found["account"] = str(client(settings, "sts", region, attempts=2).get_caller_identity()["Account"])
        except (BotoCoreError, ClientError, ProviderError):
            # Without credentials the calls that matter report it.
            return found
    return found


def locate_queue(settings: AwsSettings, context: LocationContext) -> Mapping[str, str]:
    """Return the region and account of SQS. Implements `QueueBackend.locate`."""
    return location_of(settings, "sqs", region=context.region, zone=context.zone)


def locate_compute(settings: AwsSettings, context: LocationContext) -> Mapping[str, str]:
    """Return the region and account of EC2. Implements `ComputeBackend.locate`."""
    return location_of(settings, "ec2", region=context.region, zone=context.zone)


def identity_of(settings: AwsSettings) -> str:
    """Return a cache key of the configured credentials, without calling AWS."""
    parts = (
        settings.profile or os.environ.get("AWS_PROFILE", ""),
        settings.access_key or os.environ.get("AWS_ACCESS_KEY_ID", ""),
        str(settings.credentials_file or ""),
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def endpoint_of(settings: AwsSettings, service: str) -> str | None:
    """Return the configured endpoint of a service, or None for the SDK's default."""
    own = getattr(settings, _OWN_SETTINGS.get(service, ""), None)
    if own:
        return str(own)
        # The SDK's environment variable for this service takes precedence over the endpoint of all services.
    if os.environ.get(f"AWS_ENDPOINT_URL_{service.upper().replace('-', '_')}"):
        return None
    return settings.endpoint_url


def _explicit_keys(settings: AwsSettings) -> dict[str, str | None] | None:
    given = (settings.access_key, settings.secret_key)
    if not any(given):
        if settings.session_token:
            raise InputError("aws.session_token: access_key and secret_key are missing")
        return None
    if not all(given):
        missing = "secret_key" if settings.access_key else "access_key"
        raise InputError(
            f"aws.{missing}: missing; access_key and secret_key must be set together",
            hint=f"set CLOUD_TASKS_AWS_{missing.upper()}, or neither of them to use the SDK's credential chain",
        )
    return {
        "aws_access_key_id": settings.access_key,
        "aws_secret_access_key": settings.secret_key,
        "aws_session_token": settings.session_token,
    }


def _refuse_if_exposed(path: Path) -> None:
    """Raise `InputError` unless the file exists and only this user can read it."""
    where = str(path)
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"aws.credentials_file: cannot be read: {error.strerror}", where=where) from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError("aws.credentials_file: not a regular file", where=where)
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise InputError("aws.credentials_file: readable by other users", where=where, hint=f"run: chmod 600 {path}")
    if status.st_uid not in (os.geteuid(), 0):
        raise InputError("aws.credentials_file: owned by another user", where=where, hint=f"run: chown $USER {path}")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
