"""The ``nats:`` section of the configuration."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import attrs

from cloud_tasks.plugin import setting

__all__ = ["NatsSettings"]


def _is_url_without_credentials(instance: object, attribute: attrs.Attribute[str], value: str) -> None:
    if not re.match(r"(nats|tls|ws|wss)://.", value):
        raise ValueError("must start with nats://, tls://, ws:// or wss://")
    # The URL is passed to every instance, where others may read it.
    if "@" in urlsplit(value).netloc:
        raise ValueError("must not contain a user, password or token; set nats.username and nats.password instead")


@attrs.frozen(kw_only=True)
class NatsSettings:
    """Server and account."""

    url: str = setting(
        help="URL of the server: nats://host:port, tls:// for TLS, ws:// or wss:// for WebSocket",
        default="nats://127.0.0.1:4222",
        env="NATS_URL",
        flag="--nats-url",
        worker=True,
        locates=True,
        validator=_is_url_without_credentials,
    )
    username: str | None = setting(help="User name; without one, the password is a token", default=None, worker=True)
    password: str | None = setting(
        help="Password of the user, or token of the server", default=None, env="NATS_PASSWORD", secret=True, worker=True
    )
