"""Credentials of all Azure clients of this distribution.

Order: none for the endpoint of an emulator; the application in the settings (tenant, client id, secret); on an instance
the identity that it was launched with; the default chain of azure-identity: environment, workload identity, managed
identity, Azure CLI, and so on.

Invariants, each with a test:

1. Secrets and tokens never appear in an error message or a ``repr``.
2. A bearer token is never sent unencrypted: a client of a plain http endpoint sends none.
3. Every failure is a `ProviderError` of one line with a suggested fix. Without a connection it is transient: a token
   is renewed hourly, and a network that is away then ends no job.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from subprocess import TimeoutExpired
from typing import Any, NoReturn, Protocol

from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError, ServiceResponseError
from azure.identity import ClientSecretCredential, CredentialUnavailableError, DefaultAzureCredential

from cloud_tasks.errors import CredentialsError, ProviderError
from cloud_tasks.plugin import LocationContext
from cloud_tasks_azure.compute.zones import location_of
from cloud_tasks_azure.settings import AccountSettings, AzureSettings

__all__ = [
    "INSTANCE_IDENTITY",
    "LOGIN",
    "MANAGEMENT_ENDPOINT",
    "Credential",
    "credential",
    "credential_error",
    "is_emulator",
    "locate_compute",
    "subscription_id",
]

# Warnings of the SDK, such as all attempted credentials in 13 lines, are for programs that show its log.
logging.getLogger("azure").addHandler(logging.NullHandler())

LOGIN = "run: az login (or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET)"
INSTANCE_IDENTITY = "CLOUD_TASKS_AZURE_INSTANCE_IDENTITY"
"""Environment variable of an instance: resource id of the managed identity that was assigned by the launch."""
MANAGEMENT_ENDPOINT = "https://management.azure.com"


class Credential(Protocol):
    """A credential of the SDK's clients, closed with them."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """Return a token for the scopes."""

    def close(self) -> None:
        """Close connections."""


def credential(settings: AccountSettings, *, endpoint: str | None = None) -> Credential:
    """Return the credential for clients of Resource Manager, Storage and Service Bus, without calling Azure.

    Args:
        endpoint: Endpoint of the client, if not Azure's own; for an emulator (`is_emulator`) the credential has no
            token.

    Raises:
        ProviderError: The settings name an application only in part.
    """
    if is_emulator(endpoint):
        return _NoToken()
    if settings.client_secret is None and INSTANCE_IDENTITY in os.environ:
        from azure.identity import ManagedIdentityCredential

        return ManagedIdentityCredential(identity_config={"resource_id": os.environ[INSTANCE_IDENTITY]})
    if settings.client_secret is None:
        # A user or managed identity; with the id of an application, which may be a managed identity's.
        identity = {"managed_identity_client_id": settings.client_id} if settings.client_id else {}
        return DefaultAzureCredential(exclude_interactive_browser_credential=True, **identity)
    missing = [name for name in ("tenant_id", "client_id") if getattr(settings, name) is None]
    if missing:
        raise ProviderError(
            f"azure.client_secret: azure.{' and azure.'.join(missing)} missing",
            hint="set all three, or none of them and run: az login",
        )
    return ClientSecretCredential(str(settings.tenant_id), str(settings.client_id), settings.client_secret)


def subscription_id(settings: AzureSettings) -> str:
    """Return the subscription id. Raises `ProviderError` if none is configured."""
    if not settings.subscription_id:
        raise ProviderError(
            "no Azure subscription is configured",
            hint="set --subscription-id or azure.subscription_id; list subscriptions with: az account list",
        )
    return settings.subscription_id


def is_emulator(endpoint: str | None) -> bool:
    """Return whether an endpoint is an emulator: plain http, on which Azure does not answer, so it gets no token."""
    return bool(endpoint) and not str(endpoint).lower().startswith("https://")


def credential_error(error: ClientAuthenticationError, action: str = "") -> ProviderError:
    """Return the error for a failed sign-in, to be raised ``from`` the SDK's.

    Args:
        action: Start of the message.

    The SDK reports a network that is away, or a command that takes too long, in the same way as a login that has ended.
    """
    start = f"{action}: " if action else ""
    if error.response is None and any(isinstance(each, _PASSING) for each in _causes(error)):
        return ProviderError(f"{start}cannot reach Azure to sign in", transient=True, hint="check the network")
    if isinstance(error, CredentialUnavailableError) or error.response is None:
        # Its message lists every attempted credential over many lines; the type is enough.
        return CredentialsError(f"{start}no usable Azure credentials found ({type(error).__name__})", hint=LOGIN)
    return CredentialsError(f"{start}Azure rejected the credentials (HTTP {error.response.status_code})", hint=LOGIN)


_PASSING = (ServiceRequestError, ServiceResponseError, OSError, TimeoutExpired)
"""Causes that say nothing about the credentials. The errors of `requests` are an `OSError`."""


def _causes(error: BaseException) -> Iterator[BaseException]:
    found, seen = error.__cause__ or error.__context__, set[int]()
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__


class _NoToken:
    """Credential of clients that send no token; requesting one is a programming error."""

    def get_token(self, *scopes: str, **options: Any) -> NoReturn:
        raise ProviderError("no token available for an endpoint that is not Azure's")

    def close(self) -> None:
        """Do nothing: no connection is open."""


def locate_compute(settings: AzureSettings, context: LocationContext) -> Mapping[str, str]:
    """Return the subscription and the region. Implements `ComputeBackend.locate`."""
    region = context.region or location_of(context.zone or "")
    return {"subscription": subscription_id(settings), "region": region.lower()}
