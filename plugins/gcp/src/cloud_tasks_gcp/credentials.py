"""Credentials of all Google Cloud clients of this distribution.

Order of lookup: none for an emulator endpoint, the key file of the settings, the application default credentials. With
`impersonate_service_account` the latter two only impersonate that service account.

Invariants, each with a test:

1. No part of a key, a token or a file's content is in an error message.
2. A bearer token is never sent unencrypted: for a plain http endpoint the credentials are anonymous.
3. Every failure is a one-line `ProviderError` with a remedy.
4. A person's new login is used without a restart.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import google.auth
import google.auth.credentials
import google.auth.exceptions
import google.oauth2.credentials
from google.auth import impersonated_credentials

from cloud_tasks.errors import CredentialsError, ProviderError
from cloud_tasks.plugin import LocationContext
from cloud_tasks_gcp.renewed_credentials import RenewedCredentials
from cloud_tasks_gcp.settings import GcpSettings

__all__ = [
    "SCOPE",
    "auth_failure",
    "credentials",
    "identity",
    "is_emulator",
    "locate_compute",
    "locate_queue",
    "project_id",
]

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
"""Requested OAuth scope; IAM roles limit its use (Google: "Access scopes", best practices)."""

_LOGIN = "run: gcloud auth application-default login (or add --credentials-file FILE)"


def credentials(settings: GcpSettings, *, endpoint: str | None = None) -> google.auth.credentials.Credentials:
    """Create credentials for the clients of Pub/Sub, Compute Engine, Cloud Billing and Cloud Storage, without any call.

    Args:
        endpoint: Endpoint of the client; None for Google's own. An emulator endpoint gets anonymous credentials (see
            `is_emulator`).

    Raise `ProviderError` when none are found or the credentials file is unusable.
    """
    if is_emulator(endpoint):
        return google.auth.credentials.AnonymousCredentials()
    own, _ = _own(settings)
    if isinstance(own, google.oauth2.credentials.Credentials):
        own = RenewedCredentials(own, lambda: _own(settings)[0])
    if settings.impersonate_service_account is None:
        return own
    return impersonated_credentials.Credentials(
        source_credentials=own, target_principal=settings.impersonate_service_account, target_scopes=[SCOPE]
    )


def identity(settings: GcpSettings, *, endpoint: str | None = None) -> str:
    """Describe the credentials for the log, without any part of a key or token."""
    if is_emulator(endpoint):
        return f"no credentials (emulator at {endpoint})"
    named = settings.credentials_file
    own = "default application credentials" if named is None else f"the credentials file {named}"
    target = settings.impersonate_service_account
    return own if target is None else f"{own}, impersonating {target}"


def project_id(settings: GcpSettings) -> str:
    """Return the project id of the settings, else that of the credentials. Raise `ProviderError` when neither has
    one."""
    if settings.project_id:
        return settings.project_id
    _, found = _own(settings)
    if not found:
        raise ProviderError(
            "no Google Cloud project set",
            hint="add --project-id ID or set gcp.project_id; run: gcloud projects list",
        )
    return found


def auth_failure(error: google.auth.exceptions.GoogleAuthError, settings: GcpSettings) -> ProviderError:
    """Translate a google-auth error; raise the result ``from`` the original."""
    if isinstance(error, google.auth.exceptions.TransportError):
        return ProviderError("cannot reach Google's sign-in service", transient=True, hint="check the network")
    target = settings.impersonate_service_account
    if target is not None and "impersonated credentials" in str(error):
        return ProviderError(
            f"these credentials cannot impersonate {target}",
            hint=f"run: gcloud iam service-accounts add-iam-policy-binding {target} --member user:YOU "
            "--role roles/iam.serviceAccountTokenCreator, and: gcloud services enable iamcredentials.googleapis.com",
        )
    if isinstance(error, google.auth.exceptions.RefreshError):
        return CredentialsError("the Google Cloud credentials have expired or were revoked", hint=_LOGIN)
    return CredentialsError(f"cannot use the Google Cloud credentials: {type(error).__name__}", hint=_LOGIN)


def is_emulator(endpoint: str | None) -> bool:
    """Return whether an endpoint (``http://127.0.0.1:8080``, or ``host:port`` as for the Pub/Sub emulator) is an
    emulator.

    Google's endpoints are https only; any other endpoint gets no token.
    """
    return bool(endpoint) and not str(endpoint).startswith("https://")


def _own(settings: GcpSettings) -> tuple[google.auth.credentials.Credentials, str | None]:
    """Return the caller's own credentials and their project."""
    if settings.credentials_file is not None:
        return _from_file(Path(settings.credentials_file).expanduser())
    try:
        found, project = google.auth.default(scopes=[SCOPE])
    except google.auth.exceptions.DefaultCredentialsError as error:
        raise CredentialsError("no Google Cloud credentials found", hint=_LOGIN) from error
    except google.auth.exceptions.GoogleAuthError as error:
        raise ProviderError(
            f"cannot read the Google Cloud credentials of this machine: {type(error).__name__}", hint=_LOGIN
        ) from error
    return found, project


def _from_file(path: Path) -> tuple[google.auth.credentials.Credentials, str | None]:
    if not path.is_file():
        raise ProviderError(f"credentials file {path} not found", hint="check --credentials-file")
    if not os.access(path, os.R_OK):
        raise ProviderError(f"cannot read the credentials file {path}", hint=f"run: chmod u+r {path}")
    try:
        with warnings.catch_warnings():
            # The loader warns about files from untrusted sources; the user chose this file.
            warnings.simplefilter("ignore", DeprecationWarning)
            found, project = google.auth.load_credentials_from_file(str(path), scopes=[SCOPE])
    except (
        google.auth.exceptions.GoogleAuthError,
        ValueError,
        OSError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        # The exception text may quote the file; report its type only.
        raise ProviderError(
            f"{path} is not a valid Google Cloud credentials file",
            hint="run: gcloud iam service-accounts keys create FILE --iam-account ACCOUNT, or omit "
            "--credentials-file and run: gcloud auth application-default login",
        ) from error
    return found, project


def locate_queue(settings: GcpSettings, context: LocationContext) -> Mapping[str, str]:
    """Return the project. Implements `QueueBackend.locate`."""
    return {"project": project_id(settings)}


def locate_compute(settings: GcpSettings, context: LocationContext) -> Mapping[str, str]:
    """Return the project and the region. Implements `ComputeBackend.locate`."""
    return {"project": project_id(settings), "region": context.region or (context.zone or "").rpartition("-")[0]}
