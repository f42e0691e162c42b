"""What a test tells the overlay while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cloud_wire import Answer, Request, Wire
from ec2_calls import InstanceCalls, StockOut
from ec2_faults import ApiFaults, Shares

__all__ = ["Admin"]


class Admin:
    """What a test tells the overlay: ``POST /_admin/<verb>`` with a JSON object, ``GET /_admin/state``."""

    def __init__(
        self,
        calls: InstanceCalls,
        faults: ApiFaults,
        *,
        quotas: dict[str, float],
        actions: list[str],
        asked: set[tuple[str, str]],
    ) -> None:
        self._calls = calls
        self._faults = faults
        self._quotas = quotas
        self._actions = actions
        self._asked = asked

    def register(self, wire: Wire) -> None:
        wire.route("GET", "/_admin/state", lambda request: self.state())
        wire.route("POST", r"/_admin/(?P<verb>[a-z-]+)", self._act)

    def _act(self, request: Request) -> Any:
        verbs: dict[str, Callable[..., Any]] = {
            "interrupt": self.interrupt,
            "rebalance": self.rebalance,
            "stock-out": self.stock_out,
            "in-stock": self.in_stock,
            "faults": self.faults,
            "quota": self.quota,
            "break-page": self.break_page,
            "hide-templates": self.hide_templates,
            "hide-instances": self.hide_instances,
        }
        if request.groups["verb"] not in verbs:
            return Answer(status=404, body="unknown verb")
        return verbs[request.groups["verb"]](**request.json()) or {}

    def state(self) -> Mapping[str, Any]:
        return {
            "instances": [each.as_json() for each in self._calls.fleet.all()],
            "interruptions": self._calls.fleet.interruptions,
            "struck": dict(self._faults.struck),
            "calls": len(self._actions),
            "actions": list(self._actions),
            "asked": sorted(self._asked),
        }

    def interrupt(self, instance_id: str, notice: float) -> None:
        """Announce an interruption, and end the instance after ``notice`` seconds."""
        self._calls.fleet.interrupt(instance_id, notice)

    def rebalance(self, instance_id: str) -> None:
        """Recommend a rebalance."""
        self._calls.fleet.recommend_rebalance(instance_id)

    def stock_out(self, **where: Any) -> None:
        """Refuse launches there; the fields are those of `StockOut`."""
        self._calls.stock_outs.append(StockOut(**where))

    def in_stock(self) -> None:
        """Refuse no launch any more."""
        self._calls.stock_outs.clear()

    def faults(self, **shares: float) -> None:
        """Let shares of the calls go wrong; the fields are those of `Shares`."""
        self._faults.shares = Shares(**shares)

    def quota(self, code: str, value: float) -> None:
        """Make a quota known."""
        self._quotas[code] = value

    def break_page(self, token_only: bool) -> None:
        """Let every page of a listing but the first fail, or no longer."""
        self._calls.second_pages_break = token_only

    def hide_templates(self, count: int) -> None:
        """Let so many looks at launch templates find none, as when they were just made."""
        self._calls.templates.hidden = count

    def hide_instances(self, hidden: bool) -> None:
        """Let instances that are asked for by their ids be unknown, as when they were just made, or no longer."""
        self._calls.ids_are_unknown = hidden
