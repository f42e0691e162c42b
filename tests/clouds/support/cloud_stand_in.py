"""A cloud with machines on loopback: its API on one port, and on another, which no fault ever strikes, what a test does
to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import attrs
from cloud_state import CloudState
from cloud_wire import Fault, Request, Wire

__all__ = ["StandIn"]

CloudT = TypeVar("CloudT", bound="CloudState[Any, Any]")


class StandIn(ABC, Generic[CloudT]):
    """Serves while its context is entered; a derived class registers its API at `wire`.

    What `cloud_process.StandInProcess` says to it is answered at `admin`.

    Args:
        stock_out: Makes a rule by which launches find no machine.
        seed: Of the faults.
    """

    def __init__(self, cloud: CloudT, *, stock_out: type, seed: int) -> None:
        self.cloud = cloud
        self.wire = Wire(seed=seed)
        self.admin = Wire()
        self._stock_out = stock_out
        self._serve_admin()

    @property
    def url(self) -> str:
        """What the plugin's endpoint is set to."""
        return self.wire.url

    @property
    def admin_url(self) -> str:
        return self.admin.url

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What there is and what was done, as JSON can express it."""

    def __enter__(self) -> Self:
        self.wire.start()
        self.admin.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the machines and stop serving."""
        self.cloud.close()
        self.wire.close()
        self.admin.close()

    # -- the admin port --

    def _serve_admin(self) -> None:
        cloud = self.cloud

        def stock_outs(request: Request) -> None:
            cloud.stock_outs = [self._stock_out(**rule) for rule in request.json()]

        def fault(request: Request) -> None:
            told = request.json()
            if "methods" in told:
                told["methods"] = frozenset(told["methods"])
            self.wire.fault = Fault(**told) if told else None

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
