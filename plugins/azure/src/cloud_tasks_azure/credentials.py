"""As whom Azure is called: one place that makes credentials for every client of this distribution.

In this order: none where the endpoint is a stand-in, the application of the settings (tenant, client id, secret), and
azure-identity's default chain: environment, workload identity, managed identity, Azure CLI, and so on.

Invariants, each with a test:

1. Nothing of a secret or a token is in an error's text or in a ``repr``.
2. A bearer token is never sent in the clear: a client of a plain http endpoint signs nothing, and has none to send.
3. Every failure is a `ProviderError` of one line that says what to do.
"""

from __future__ import annotations

from typing import Any, NoReturn, Protocol

from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.identity import ClientSecretCredential, CredentialUnavailableError, DefaultAzureCredential

from cloud_tasks.errors import ProviderError
from cloud_tasks_azure.settings import AzureSettings

__all__ = [
    "LOGIN",
    "MANAGEMENT_ENDPOINT",
    "MANAGEMENT_SCOPE",
    "Credential",
    "auth_failure",
    "client_options",
    "credential",
    "is_stand_in",
    "subscription_id",
]

LOGIN = "run: az login (or give AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET)"
MANAGEMENT_ENDPOINT = "https://management.azure.com"
MANAGEMENT_SCOPE = "https://management.azure.com/.default"
"""What a token for Resource Manager is asked for ("Scopes and permissions in the Microsoft identity platform")."""


class Credential(Protocol):
    """What every client of the SDK takes, and what is closed in the end."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """A token for the scopes."""

    def close(self) -> None:
        """Free connections."""


def credential(settings: AzureSettings, *, endpoint: str | None = None) -> Credential:
    """The credential for the clients of Resource Manager, Storage and Service Bus. Calls nobody yet.

    Args:
        endpoint: Where the client will call, when that is not Azure's own address; for a stand-in (`is_stand_in`) a
            credential comes back that has no token, to be used with `client_options`.

    Raises `ProviderError` where the settings name an application in part.
    """
    if is_stand_in(endpoint):
        return _NoToken()
    if settings.client_secret is None:
        # The user's own identity, or the machine's. An application's id may name a managed identity.
        identity = {"managed_identity_client_id": settings.client_id} if settings.client_id else {}
        return DefaultAzureCredential(exclude_interactive_browser_credential=True, **identity)
    missing = [name for name in ("tenant_id", "client_id") if getattr(settings, name) is None]
    if missing:
        raise ProviderError(
            f"azure.client_secret is given without azure.{' and azure.'.join(missing)}",
            hint="give all three, or none of them and run: az login",
        )
    return ClientSecretCredential(str(settings.tenant_id), str(settings.client_id), settings.client_secret)


def client_options(endpoint: str | None) -> dict[str, Any]:
    """Keyword arguments for a management client of an endpoint; None: Azure's own."""
    if not endpoint:
        return {}
    base = endpoint.rstrip("/")
    # A token is good for the cloud that it was asked for: sovereign clouds have an endpoint, and a scope, of their own.
    options: dict[str, Any] = {"base_url": base, "credential_scopes": [f"{base}/.default"]}
    if is_stand_in(endpoint):
        # The SDK's own policy refuses plain http, with good reason: it would send the token along.
        options["authentication_policy"] = _Unsigned()
    return options


def subscription_id(settings: AzureSettings) -> str:
    """The subscription that is worked in. Raises `ProviderError` when none is named."""
    if not settings.subscription_id:
        raise ProviderError(
            "no Azure subscription is named",
            hint="give --subscription-id, or azure.subscription_id in the configuration; az account list shows yours",
        )
    return settings.subscription_id


def is_stand_in(endpoint: str | None) -> bool:
    """Whether an endpoint is no real cloud: Azure answers on https only; what is reached without it gets no token."""
    return bool(endpoint) and not str(endpoint).lower().startswith("https://")


def auth_failure(error: ClientAuthenticationError) -> ProviderError:
    """What the SDK raises where signing in fails, as our own error: raise it ``from`` the other."""
    if isinstance(error, CredentialUnavailableError) or error.response is None:
        # Its text is a list of all that was tried, over many lines; only its kind is told.
        return ProviderError(f"there are no usable Azure credentials here ({type(error).__name__})", hint=LOGIN)
    return ProviderError(f"Azure does not accept the credentials (HTTP {error.response.status_code})", hint=LOGIN)


class _NoToken:
    """For clients that sign nothing; being asked for a token all the same is a defect of ours."""

    def get_token(self, *scopes: str, **options: Any) -> NoReturn:
        raise ProviderError("a token was asked for, for an endpoint that is not Azure's")

    def close(self) -> None:
        """Nothing is open."""


class _Unsigned(SansIOHTTPPolicy[Any, Any]):
    """An authentication policy that adds nothing to a request."""
