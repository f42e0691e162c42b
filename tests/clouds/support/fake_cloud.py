"""Fake cloud on loopback: its API on one port, and on another, without faults, its control by tests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import attrs
from cloud_state import CloudState
from fake_server import FakeServer, Fault, Request

__all__ = ["FakeCloud"]

CloudT = TypeVar("CloudT", bound="CloudState[Any, Any]")


class FakeCloud(ABC, Generic[CloudT]):
    """Fake cloud that serves within its context; a derived class registers its API at `server`.

    `fake_cloud_process.FakeCloudProcess` controls it through `admin`.

    Args:
        stock_out: Class of the stock-out rules.
        seed: Seed of the faults.
    """

    def __init__(self, cloud: CloudT, *, stock_out: type, seed: int) -> None:
        self.cloud = cloud
        self.server = FakeServer(seed=seed)
        self.admin = FakeServer()
        self._stock_out = stock_out
        self._serve_admin()

    @property
    def url(self) -> str:
        """Value of the plugin's endpoint setting."""
        return self.server.url

    @property
    def admin_url(self) -> str:
        return self.admin.url

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return resources and past actions as JSON data."""

    def __enter__(self) -> Self:
        self.server.start()
        self.admin.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Terminate the instances and stop serving."""
        self.cloud.close()
        self.server.close()
        self.admin.close()

    # -- the admin port --

    def _serve_admin(self) -> None:
        cloud = self.cloud

        def stock_outs(request: Request) -> None:
            cloud.stock_outs = [self._stock_out(**rule) for rule in request.json()]

        def fault(request: Request) -> None:
            options = request.json()
            if "methods" in options:
                options["methods"] = frozenset(options["methods"])
            self.server.fault = Fault(**options) if options else None

        def times(request: Request) -> None:
            cloud.times = attrs.evolve(cloud.times, **request.json())

        def quotas(request: Request) -> None:
            for place, limits in request.json().items():
                cloud.quotas_of(place).update(limits)

        self.admin.route("GET", "/state", lambda request: self.state())
        self.admin.route("POST", "/stock-outs", stock_outs)
        self.admin.route("POST", "/fault", fault)
        self.admin.route("POST", "/times", times)
        self.admin.route("POST", "/quotas", quotas)
        self.admin.route("POST", "/advance", lambda request: cloud.timeline.advance(request.json()["seconds"]))
