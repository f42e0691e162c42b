"""Faults between an SDK and the overlay: throttling, server errors, connections cut before or after the effect."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable

import attrs
from ec2_xml import Ec2Error, error_answer
from fake_server import Answer

__all__ = ["ApiFaults", "Shares"]


@attrs.frozen(kw_only=True)
class Shares:
    """Share of the calls with each fault (0 to 1)."""

    throttle: float = 0.0
    error: float = 0.0
    reset: float = 0.0
    """The connection is cut before the call takes effect."""
    cut: float = 0.0
    """The connection is cut after the call took effect."""


class ApiFaults:
    """Draws a fault for each call. Thread-safe."""

    def __init__(self, *, seed: int) -> None:
        self.shares = Shares()
        self.injected: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def through(self, call: Callable[[], Answer | None], *, is_json: bool) -> Answer | None:
        """Execute a call unless a fault prevents it; None if the connection must be cut."""
        kind = self._draw()
        if kind == "throttle":
            return _throttled(is_json)
        if kind == "error":
            return _broken(is_json)
        if kind == "reset":
            return None
        answer = call()
        return None if kind == "cut" else answer

    def _draw(self) -> str:
        with self._lock:
            number = self._random.random()
            for name, share in attrs.asdict(self.shares).items():
                number -= share
                if number < 0:
                    self.injected[name] += 1
                    return str(name)
        return ""


def _throttled(is_json: bool) -> Answer:
    if is_json:
        return Answer(
            status=400,
            body={"__type": "com.amazonaws#ThrottlingException", "message": "Rate exceeded"},
            headers={"x-amzn-query-error": "ThrottlingException;Sender"},
        )
    return error_answer(Ec2Error("RequestLimitExceeded", "Request limit exceeded.", status=503))


def _broken(is_json: bool) -> Answer:
    if is_json:
        return Answer(status=500, body={"__type": "com.amazonaws#InternalError", "message": "Try again"})
    return error_answer(Ec2Error("InternalError", "An internal error has occurred", status=500))
