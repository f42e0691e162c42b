"""Control of the overlay by tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from account_calls import AccountCalls
from ec2_calls import InstanceCalls, StockOut
from ec2_faults import ApiFaults, Shares
from fake_server import Answer, FakeServer, Request

__all__ = ["Admin"]


class Admin:
    """Control endpoint: ``POST /_admin/<verb>`` with a JSON object, ``GET /_admin/state``."""

    def __init__(
        self,
        calls: InstanceCalls,
        faults: ApiFaults,
        *,
        account: AccountCalls,
        quotas: dict[str, float],
        actions: list[str],
        refusals: dict[str, Mapping[str, str]],
        called: set[tuple[str, str]],
    ) -> None:
        self._calls = calls
        self._faults = faults
        self._account = account
        self._quotas = quotas
        self._actions = actions
        self._refusals = refusals
        self._called = called

    def register(self, server: FakeServer) -> None:
        server.route("GET", "/_admin/state", lambda request: self.state())
        server.route("POST", r"/_admin/(?P<verb>[a-z-]+)", self._act)

    def _act(self, request: Request) -> Any:
        verbs: dict[str, Callable[..., Any]] = {
            "account": self.account,
            "deny": self.deny,
            "foreign": self.foreign,
            "interrupt": self.interrupt,
            "rebalance": self.rebalance,
            "stock-out": self.stock_out,
            "in-stock": self.in_stock,
            "faults": self.faults,
            "refuse": self.refuse,
            "default-vpc": self.default_vpc,
            "deprecate": self.deprecate,
            "images": self.images,
            "quota": self.quota,
            "break-page": self.break_page,
            "hide-templates": self.hide_templates,
            "hide-instances": self.hide_instances,
            "hide-from-termination": self.hide_from_termination,
        }
        if request.groups["verb"] not in verbs:
            return Answer(status=404, body="unknown verb")
        return verbs[request.groups["verb"]](**request.json()) or {}

    def state(self) -> Mapping[str, Any]:
        return {
            "instances": [each.as_json() for each in self._calls.fleet.all()],
            "templates": self._calls.templates.names(),
            "interruptions": self._calls.fleet.interruptions,
            "injected": dict(self._faults.injected),
            "calls": len(self._actions),
            "actions": list(self._actions),
            "called": sorted(self._called),
            "permissions": sorted(self._account.permissions),
            "unowned": sorted(self._account.unowned),
        }

    def account(self, number: str = "123456789012", lag: int = 0) -> None:
        """Continue in another account, in which something new is not seen ``lag`` times."""
        self._account.enter(number, lag)

    def deny(self, *, permissions: list[str]) -> None:
        """Refuse the calls that need one of these permissions."""
        self._account.denied.update(permissions)

    def foreign(self, bucket: str) -> None:
        """Let a bucket belong to another account."""
        self._account.foreign.add(bucket)

    def interrupt(self, instance_id: str, notice: float) -> None:
        """Announce an interruption, and terminate the instance after ``notice`` seconds."""
        self._calls.fleet.interrupt(instance_id, notice)

    def rebalance(self, instance_id: str) -> None:
        """Recommend a rebalance."""
        self._calls.fleet.recommend_rebalance(instance_id)

    def stock_out(self, **where: Any) -> None:
        """Refuse matching launches; the fields are those of `StockOut`."""
        self._calls.stock_outs.append(StockOut(**where))

    def in_stock(self) -> None:
        """Stop refusing launches and actions."""
        self._calls.stock_outs.clear()
        self._refusals.clear()
        self._calls.has_default_vpc = True
        self._calls.deprecated.clear()
        self.images()

    def default_vpc(self, exists: bool) -> None:
        """Show or hide the default VPC."""
        self._calls.has_default_vpc = exists

    def deprecate(self, image_id: str) -> None:
        """Deprecate an image."""
        self._calls.deprecated.add(image_id)

    def images(self, pending: int = 1, failure: str = "", hidden: int = 0) -> None:
        """Let new images be unknown to so many look-ups, pending in so many, and then fail if there is a reason."""
        images = self._calls.images
        images.pending, images.failure, images.hidden = pending, failure, hidden

    def refuse(self, action: str, code: str, message: str = "refused", region: str = "") -> None:
        """Refuse an action of any service, in one region or in all."""
        self._refusals[action] = {"code": code, "message": message, "region": region}

    def faults(self, **shares: float) -> None:
        """Inject faults into shares of the calls; the fields are those of `Shares`."""
        self._faults.shares = Shares(**shares)

    def quota(self, code: str, value: float) -> None:
        """Set a quota."""
        self._quotas[code] = value

    def break_page(self, token_only: bool) -> None:
        """Fail every page of a listing but the first, or stop doing so."""
        self._calls.second_pages_break = token_only

    def hide_templates(self, count: int) -> None:
        """Hide launch templates from the next ``count`` lookups, like just created ones."""
        self._calls.templates.hidden = count

    def hide_instances(self, hidden: bool) -> None:
        """Hide instances from lookups by id, like just created ones, or stop doing so."""
        self._calls.ids_are_unknown = hidden

    def hide_from_termination(self, count: int) -> None:
        """Let the next ``count`` terminations find no instance, like just launched ones."""
        self._calls.unknown_terminations = count
