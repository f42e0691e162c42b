"""As whom Google Cloud is called: one place that makes credentials for every client of this distribution.

In this order: none where the endpoint is a stand-in, the key file of the settings, the application default
credentials; each of the two last, where the settings ask for it, only to impersonate a service account.

Invariants, each with a test:

1. Nothing of a key, a token or a file's content is in an error's text.
2. A bearer token is never sent in the clear: for an endpoint of plain http the credentials are anonymous.
3. Every failure is a `ProviderError` of one line that says what to do.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import google.auth
import google.auth.credentials
import google.auth.exceptions
from google.auth import impersonated_credentials

from cloud_tasks.errors import ProviderError
from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["SCOPE", "auth_failure", "credentials", "identity", "is_stand_in", "project_id"]

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
"""The one scope that is asked for; IAM roles say what it is good for (Google: "Access scopes", best practices)."""

_LOGIN = "run: gcloud auth application-default login (or name a key file with --credentials-file)"


def credentials(settings: GcpSettings, *, endpoint: str | None = None) -> google.auth.credentials.Credentials:
    """Credentials for the clients of Pub/Sub, Compute Engine, Cloud Billing and Cloud Storage. Calls nobody yet.

    Args:
        endpoint: Where the client will call, when that is not Google's own address; anonymous credentials come back for
            a stand-in (see `is_stand_in`).

    Raises `ProviderError` when there are none, or the file that is named cannot be used.
    """
    if is_stand_in(endpoint):
        return google.auth.credentials.AnonymousCredentials()
    own, _ = _own(settings)
    if settings.impersonate_service_account is None:
        return own
    return impersonated_credentials.Credentials(
        source_credentials=own, target_principal=settings.impersonate_service_account, target_scopes=[SCOPE]
    )


def identity(settings: GcpSettings, *, endpoint: str | None = None) -> str:
    """As whom `credentials` would call, for a line of the log: never anything of a key or a token."""
    if is_stand_in(endpoint):
        return f"no credentials, for {endpoint}"
    named = settings.credentials_file
    own = "default application credentials" if named is None else f"the credentials file {named}"
    target = settings.impersonate_service_account
    return own if target is None else f"{own} to act as {target}"


def project_id(settings: GcpSettings) -> str:
    """The project that is worked in: the setting, else the one that the credentials name.

    Raises `ProviderError` when neither does.
    """
    if settings.project_id:
        return settings.project_id
    _, found = _own(settings)
    if not found:
        raise ProviderError(
            "no Google Cloud project is named",
            hint="give --project-id, or gcp.project_id in the configuration; gcloud projects list shows yours",
        )
    return found


def auth_failure(error: google.auth.exceptions.GoogleAuthError, settings: GcpSettings) -> ProviderError:
    """What google-auth raises while a client calls, as our own error: raise it ``from`` the other."""
    if isinstance(error, google.auth.exceptions.TransportError):
        return ProviderError("Google's sign-in service cannot be reached", transient=True, hint="check the network")
    target = settings.impersonate_service_account
    if target is not None and "impersonated credentials" in str(error):
        return ProviderError(
            f"these credentials may not act as {target}",
            hint=f"run: gcloud iam service-accounts add-iam-policy-binding {target} --member user:YOU "
            "--role roles/iam.serviceAccountTokenCreator, and: gcloud services enable iamcredentials.googleapis.com",
        )
    if isinstance(error, google.auth.exceptions.RefreshError):
        return ProviderError("the Google Cloud credentials have expired or were withdrawn", hint=_LOGIN)
    return ProviderError(f"the Google Cloud credentials cannot be used: {type(error).__name__}", hint=_LOGIN)


def is_stand_in(endpoint: str | None) -> bool:
    """Whether an endpoint (``http://127.0.0.1:8080``, or ``host:port`` as the Pub/Sub emulator's) is no real cloud.

    Google answers on https only; what is reached without it gets no token.
    """
    return bool(endpoint) and not str(endpoint).startswith("https://")


def _own(settings: GcpSettings) -> tuple[google.auth.credentials.Credentials, str | None]:
    """The caller's own credentials and the project that they name."""
    if settings.credentials_file is not None:
        return _from_file(Path(settings.credentials_file).expanduser())
    try:
        found, project = google.auth.default(scopes=[SCOPE])
    except google.auth.exceptions.DefaultCredentialsError as error:
        raise ProviderError("there are no Google Cloud credentials here", hint=_LOGIN) from error
    except google.auth.exceptions.GoogleAuthError as error:
        raise ProviderError(
            f"the Google Cloud credentials of this machine cannot be read: {type(error).__name__}", hint=_LOGIN
        ) from error
    return found, project


def _from_file(path: Path) -> tuple[google.auth.credentials.Credentials, str | None]:
    if not path.is_file():
        raise ProviderError(f"the credentials file {path} does not exist", hint="check --credentials-file")
    if not os.access(path, os.R_OK):
        raise ProviderError(f"the credentials file {path} cannot be read", hint=f"run: chmod u+r {path}")
    try:
        with warnings.catch_warnings():
            # The general loader warns of files from strangers; this one was named by the user for this very purpose.
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
        # The cause's text may quote the file; only its kind is told.
        raise ProviderError(
            f"the credentials file {path} is not one that Google Cloud issues",
            hint="make one with: gcloud iam service-accounts keys create FILE --iam-account ACCOUNT, or leave "
            "--credentials-file out and run: gcloud auth application-default login",
        ) from error
    return found, project
