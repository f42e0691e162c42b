"""A server for each test, and the log."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from webhook_server import WebhookServer

from cloud_tasks_notify.address import load_service

with warnings.catch_warnings():
    # With its first URL Apprise imports all its services, some of them by way of deprecated modules.
    warnings.simplefilter("ignore")
    load_service("json://localhost")


@pytest.fixture
def server() -> Iterator[WebhookServer]:
    with WebhookServer() as server:
        yield server


@pytest.fixture
def root_log() -> Iterator[io.StringIO]:
    """Everything that reaches the root logger, as with ``logging.basicConfig(level=logging.DEBUG)``."""
    stream, root = io.StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(stream), root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines
