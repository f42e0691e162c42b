"""The end of temporary credentials, where the SDK or the files of a login tool have it.

boto3 renews the credentials of roles and of SSO sessions. Nothing renews those of the environment, those that a tool
wrote into the credentials file with their end, and the token of an SSO login without a session.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cloud_tasks_aws.session import session
from cloud_tasks_aws.settings import AwsSettings

__all__ = ["credentials_end"]

_KEYS = ("aws_expiration", "x_security_token_expires", "aws_session_expiration", "expiration")
"""Keys of a profile in which aws-azure-login, saml2aws and similar tools write the end."""


def credentials_end(settings: AwsSettings) -> datetime | None:
    """Return when the credentials end; None if that is unknown, or they are renewed."""
    if settings.access_key:
        return None
    opened: Any = session(settings)
    credentials = opened.get_credentials()
    if credentials is None:
        return None
    if credentials.method == "env":
        end = getattr(credentials, "_expiry_time", None)
        return end if isinstance(end, datetime) else None
    profile = opened._session.get_scoped_config()
    if credentials.method == "sso":
        return None if "sso_session" in profile else _end_of_sso_token(str(profile.get("sso_start_url", "")))
    if credentials.method in ("shared-credentials-file", "config-file"):
        return next((end for key in _KEYS if (end := _time(profile.get(key))) is not None), None)
    return None


def _end_of_sso_token(start_url: str) -> datetime | None:
    name = hashlib.sha1(start_url.encode(), usedforsecurity=False).hexdigest()
    try:
        token = json.loads((Path.home() / ".aws" / "sso" / "cache" / f"{name}.json").read_text(encoding="utf-8"))
        return _time(token.get("expiresAt"))
    except (OSError, ValueError, AttributeError, RuntimeError):
        return None


def _time(text: object) -> datetime | None:
    """Return an ISO 8601 time, with UTC as the default; None for anything else."""
    try:
        found = datetime.fromisoformat(str(text).strip().replace("UTC", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
