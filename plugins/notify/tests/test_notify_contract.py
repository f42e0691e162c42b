"""Conformance tests of the event sink."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from webhook_server import WebhookServer

from cloud_tasks.registry import Registry
from cloud_tasks.testing import EventSinkContract, EventSinkSubject
from cloud_tasks_notify import plugin
from cloud_tasks_notify.settings import NotifySettings


class TestNotify(EventSinkContract):
    @pytest.fixture
    def subject(self) -> Iterator[EventSinkSubject]:
        registry = Registry(only=())
        registry.register("notify", plugin)
        with WebhookServer() as server:
            yield EventSinkSubject(
                backend=registry.event_sink("webhook"),
                settings=NotifySettings(url=server.address),
                read_back=lambda: (),
                keeps_no_events="a notification summarizes many events",
            )
