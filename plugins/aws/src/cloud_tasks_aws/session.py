"""As whom and where the services are called: credentials, endpoints, retries. The only maker of boto3 clients.

Invariants, each with a test:

1. Explicit keys are complete or refused; they are never mixed with parts of others.
2. A credentials file that another user of the machine could read is refused before it is read.
3. No key is part of an error, a log line, or the text of an object.
4. A client may be used by many threads; the session that made it is used by one, and kept by nobody.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import stat
import threading
from pathlib import Path
from typing import Any

import boto3
import botocore.loaders
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ProfileNotFound

from cloud_tasks.errors import InputError, ProviderError
from cloud_tasks_aws.settings import AwsSettings

__all__ = ["client", "endpoint_of", "identity_of", "region_for", "session"]

_making = threading.RLock()
"""Sessions share a cache of service descriptions that is not made for threads."""

_OWN_SETTINGS = {
    "ec2": "ec2_endpoint",
    "pricing": "pricing_endpoint",
    "s3": "s3_endpoint",
    "sqs": "sqs_endpoint",
}
_REGION = re.compile(r"[a-z]{2,}(?:-[a-z]+)+-[0-9]+")
"""``us-east-1``, ``us-gov-west-1``, ``eusc-de-east-1``; not ``us-central1`` or ``eastus``."""
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
    """A client of one service, for use by many threads.

    Args:
        settings: Says as whom, and where the service is.
        service: As boto3 names it: ``sqs``, ``ec2``.
        region: Of the job; see `region_for`.
        connections: How many calls may be under way at once.
        read_timeout: Seconds without an answer after which a call failed; above the wait of a long poll.
        attempts: How often a call is made at most, the first included.

    Raises:
        InputError: The credentials that were given cannot be used.
        ProviderError: There is no region, or the SDK's own configuration is broken.
    """
    config = Config(
        retries={"mode": "adaptive", "total_max_attempts": attempts},
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=read_timeout,
        max_pool_connections=connections,
        tcp_keepalive=True,
        user_agent_extra="cloud-tasks",
        # Addresses for others to fetch from S3 are signed the old way unless told, which new buckets refuse.
        signature_version="s3v4" if service == "s3" else None,
    )
    with _making:
        made: Any = session(settings, region_for(settings, region))
        try:
            return made.client(service, config=config, endpoint_url=endpoint_of(settings, service))
        except (BotoCoreError, ValueError) as error:
            raise ProviderError(f"the AWS client for {service} cannot be made: {_first_line(error)}") from error


def session(settings: AwsSettings, region: str | None = None) -> boto3.Session:
    """A session of its own for the caller; not to be shared between threads.

    Raises:
        InputError: The credentials that were given cannot be used, or there is no such profile.
        ProviderError: The SDK's own configuration is broken.
    """
    explicit = _explicit_keys(settings)
    base = botocore.session.Session()
    base.register_component("data_loader", _service_descriptions())
    profile = settings.profile
    if explicit is None and settings.credentials_file is not None:
        _refuse_if_exposed(settings.credentials_file)
        base.set_config_variable("credentials_file", str(settings.credentials_file))
        # Naming the profile makes the SDK prefer the file to keys in the environment.
        profile = profile or os.environ.get("AWS_PROFILE") or "default"
    try:
        made = boto3.Session(
            botocore_session=base,
            profile_name=None if explicit else profile,
            region_name=region or os.environ.get("AWS_REGION"),
            **(explicit or {}),
        )
        wanted = None if explicit else profile or os.environ.get("AWS_PROFILE")
        # The SDK finds out only when it needs the profile, which is in the middle of something.
        if wanted and wanted not in made.available_profiles:
            raise _no_profile(wanted, settings)
        _ = made.region_name
    except ProfileNotFound as error:
        raise _no_profile(str(error.kwargs.get("profile", "")), settings) from error
    except BotoCoreError as error:
        raise ProviderError(f"the AWS configuration cannot be used: {_first_line(error)}") from error
    return made


def _no_profile(name: str, settings: AwsSettings) -> InputError:
    where = f" in {settings.credentials_file}" if settings.credentials_file else ""
    return InputError(f'there is no AWS profile "{name}"{where}', hint="see `aws configure list-profiles`")


@functools.cache
def _service_descriptions() -> botocore.loaders.Loader:
    """Read from disk once for all sessions: each takes tens of milliseconds otherwise."""
    return botocore.loaders.create_loader()


def region_for(settings: AwsSettings, region: str | None = None, zone: str | None = None) -> str:
    """The region of AWS that is meant: the job's, that of the zone, the setting's, or as the SDK's configuration says.

    Args:
        region: The job's; where queue and machines are of two providers it may be one of the other's.

    Raises:
        ProviderError: There is none.
    """
    in_zone = _REGION.match(zone or "")
    given = region or (in_zone[0] if in_zone else None)
    if given and _REGION.fullmatch(given):
        return given
    if settings.region:
        return settings.region
    if given:
        raise ProviderError(
            f'"{given}" is no region of AWS', hint="set aws.region where only part of the job is at AWS"
        )
    found = session(settings).region_name
    if not found:
        raise ProviderError("no AWS region is known", hint="set run.region, give --region, or set AWS_REGION")
    return str(found)


def identity_of(settings: AwsSettings) -> str:
    """Tells accounts apart, as far as that can be done without asking anybody: for what is kept on disk."""
    parts = (
        settings.profile or os.environ.get("AWS_PROFILE", ""),
        settings.access_key or os.environ.get("AWS_ACCESS_KEY_ID", ""),
        str(settings.credentials_file or ""),
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def endpoint_of(settings: AwsSettings, service: str) -> str | None:
    """Where a service is, as the settings say; None leaves it to the SDK."""
    own = getattr(settings, _OWN_SETTINGS.get(service, ""), None)
    if own:
        return str(own)
    # The SDK's own variable for one service is closer to the point than our setting for all of them.
    if os.environ.get(f"AWS_ENDPOINT_URL_{service.upper().replace('-', '_')}"):
        return None
    return settings.endpoint_url


def _explicit_keys(settings: AwsSettings) -> dict[str, str | None] | None:
    given = (settings.access_key, settings.secret_key)
    if not any(given):
        if settings.session_token:
            raise InputError("aws.session_token is given without access_key and secret_key")
        return None
    if not all(given):
        missing = "secret_key" if settings.access_key else "access_key"
        raise InputError(
            f"aws.{missing} is missing: a key has two parts",
            hint=f"set CLOUD_TASKS_AWS_{missing.upper()}, or leave both to the SDK's own chain of credentials",
        )
    return {
        "aws_access_key_id": settings.access_key,
        "aws_secret_access_key": settings.secret_key,
        "aws_session_token": settings.session_token,
    }


def _refuse_if_exposed(path: Path) -> None:
    """Raise unless the file is there and belongs to this user alone."""
    where = str(path)
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"aws.credentials_file cannot be read: {error.strerror}", where=where) from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError("aws.credentials_file is not a file", where=where)
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise InputError(
            "other users of this machine may read these credentials", where=where, hint=f"chmod 600 {path}"
        )
    if status.st_uid not in (os.geteuid(), 0):
        raise InputError("these credentials belong to another user", where=where, hint=f"chown it: chown $USER {path}")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
