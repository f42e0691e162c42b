"""Sign-in by the endpoint of a managed identity in App Service, which azure-identity asks in plain HTTP.

Source: "REST endpoint reference" in "How to use managed identities for App Service and Azure Functions"; the claims are
those of an access token of Resource Manager.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from arm_roles import PERSON
from fake_server import Answer, FakeServer, Request

__all__ = ["SignIn", "signed_in"]

_SECRET = "853b9a84-5bfa-4b22-a3f3-0b9a43d9ad8a"


class SignIn:
    """The endpoint; `claims` are those of the next token."""

    def __init__(self) -> None:
        self.claims: dict[str, Any] = {"oid": PERSON, "idtyp": "user"}
        self.server = FakeServer()
        self.server.route("GET", "/msi/token", self._token)

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables of commands that are signed in."""
        return {"IDENTITY_ENDPOINT": f"{self.server.url}/msi/token", "IDENTITY_HEADER": _SECRET}

    def _token(self, request: Request) -> Answer:
        if request.headers.get("x-identity-header") != _SECRET or not request.query.get("resource"):
            return Answer(status=400, body={"statusCode": 400, "message": "Bad request"})
        parts = ({"typ": "JWT", "alg": "RS256"}, {"aud": request.query["resource"], **self.claims})
        encoded = [base64.urlsafe_b64encode(json.dumps(each).encode()).decode().rstrip("=") for each in parts]
        token = {"access_token": ".".join([*encoded, "c2lnbmF0dXJl"]), "token_type": "Bearer"}
        return Answer(body={**token, "expires_on": str(int(time.time()) + 3600), "resource": request.query["resource"]})


@contextmanager
def signed_in() -> Iterator[SignIn]:
    """Yield the running endpoint."""
    sign_in = SignIn()
    with sign_in.server.serving():
        yield sign_in
