"""Proxy of an SQS emulator that injects faults: entries of a batch, whole calls, lost responses."""

from __future__ import annotations

import http.client
import json
import threading
import urllib.parse
from collections import Counter
from collections.abc import Callable
from typing import Any

from aws_shapes import problem_of_json
from fake_server import Answer, FakeServer, Request

__all__ = ["SqsFaults"]

_TYPE = "application/x-amz-json-1.0"


class SqsFaults:
    """A proxy of one emulator.

    Args:
        target: URL of the emulator.
    """

    def __init__(self, target: str) -> None:
        self.server = FakeServer()
        self.calls: Counter[str] = Counter()
        """Number of calls by action."""
        self.requests: list[tuple[str, Any]] = []
        """Every call: action and arguments."""
        self.empty: Counter[str] = Counter()
        """Number of receiving calls without a message, by the URL of the queue."""
        self._target = urllib.parse.urlsplit(target)
        self._rules: list[tuple[str, Callable[[Any], Answer | None]]] = []
        self._cuts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.server.route("POST", "/", self._answer)

    @property
    def url(self) -> str:
        return self.server.url

    def refuse(self, action: str, code: str, *, status: int = 400, times: int = 1) -> None:
        """Fail the next calls of an action as a whole, without effect."""
        left = [times]

        def rule(arguments: Any) -> Answer | None:
            if not left[0]:
                return None
            left[0] -= 1
            body = json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": "injected"})
            return Answer(status=status, body=body, headers={"Content-Type": _TYPE})

        self._rules.append((action, rule))

    def fail_entries(self, action: str, code: str, *, sender: bool, times: int = 1) -> None:
        """Fail the first entry of the next batches of an action; the others are executed."""
        left = [times]

        def rule(arguments: Any) -> Answer | None:
            if not left[0]:
                return None
            left[0] -= 1
            failing, rest = arguments["Entries"][0], arguments["Entries"][1:]
            found: dict[str, Any] = {"Successful": [], "Failed": []}
            if rest:
                found = json.loads(self._forward(action, {**arguments, "Entries": rest})[1])
            failed = [*(found.get("Failed") or ()), _failed(failing["Id"], code, sender=sender)]
            return Answer(body=json.dumps({**found, "Failed": failed}), headers={"Content-Type": _TYPE})

        self._rules.append((action, rule))

    def cut(self, action: str, *, times: int = 1) -> None:
        """Lose the responses of the next calls of an action, after their effect."""
        self._cuts[action] += times

    def _answer(self, request: Request) -> Answer:
        action = request.headers.get("x-amz-target", "").partition("AmazonSQS.")[2]
        arguments = request.json()
        with self._lock:
            self.calls[action] += 1
            self.requests.append((action, arguments))
            for known, rule in self._rules:
                answer = rule(arguments) if known == action else None
                if answer is not None:
                    return answer
            cut = self._cuts[action] > 0
            self._cuts[action] -= cut
        wrong = problem_of_json("sqs", action, arguments)
        if wrong is not None:
            body = json.dumps({"__type": f"com.amazonaws.sqs#{wrong[0]}", "message": wrong[1]}).encode()
            return Answer(status=400, body=body, headers={"Content-Type": _TYPE})
        status, body = self._forward(action, arguments)
        if action == "ReceiveMessage" and b'"Messages"' not in body:
            with self._lock:
                self.empty[arguments["QueueUrl"]] += 1
        if cut:
            # A truncated response, like a connection lost after the call took effect.
            return Answer(status=status, body=body[: len(body) // 2], headers={"Content-Type": _TYPE, "x-cut": "1"})
        return Answer(status=status, body=body, headers={"Content-Type": _TYPE})

    def _forward(self, action: str, arguments: Any) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._target.hostname or "", self._target.port, timeout=60)
        try:
            headers = {
                "Content-Type": _TYPE,
                "X-Amz-Target": f"AmazonSQS.{action}",
                "Authorization": "AWS4-HMAC-SHA256 Credential=test/20250101/us-east-1/sqs/aws4_request",
            }
            connection.request("POST", "/", json.dumps(arguments), headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def _failed(entry: str, code: str, *, sender: bool) -> dict[str, Any]:
    return {"Id": entry, "Code": code, "Message": "injected", "SenderFault": sender}
