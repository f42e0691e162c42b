"""A person's credentials that are read again when Google refuses them: after a new login.

google-auth keeps the refresh token that it read first.

Invariant, with a test: if reading them again does not help, the error is that of the credentials read first.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

import google.auth.credentials
import google.auth.exceptions

from cloud_tasks.errors import ProviderError

__all__ = ["RenewedCredentials", "forget_tokens"]

_known: weakref.WeakSet[RenewedCredentials] = weakref.WeakSet()


class RenewedCredentials(google.auth.credentials.CredentialsWithQuotaProject):
    """Credentials in the interface of google-auth.

    Args:
        current: Those that were read first.
        read: Return the present ones. Raises `ProviderError`.
    """

    def __init__(self, current: Any, read: Callable[[], Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._current = current
        self._read = read
        self._refreshing = threading.Lock()
        self._quota_project_id = current.quota_project_id
        self._universe_domain = current.universe_domain
        self.token, self.expiry = current.token, current.expiry
        _known.add(self)

    def __getattr__(self, name: str) -> Any:
        # Only for what the base class lacks, such as the account's address.
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._current, name)

    def refresh(self, request: Any) -> None:
        """Get a token, with the present credentials if those at hand are refused."""
        with self._refreshing:
            try:
                self._current.refresh(request)
            except google.auth.exceptions.RefreshError as error:
                try:
                    found = self._read()
                    found.refresh(request)
                except (google.auth.exceptions.GoogleAuthError, ProviderError):
                    raise error from None
                self._current = found
            self.token, self.expiry = self._current.token, self._current.expiry

    def with_quota_project(self, quota_project_id: str) -> RenewedCredentials:
        """Return the same credentials with another quota project."""
        current = self._current.with_quota_project(quota_project_id)
        return RenewedCredentials(current, lambda: self._read().with_quota_project(quota_project_id))


def forget_tokens() -> None:
    """Get new tokens for the next calls, after a service refused one that had not expired."""
    for each in tuple(_known):
        each.token = each.expiry = None
