"""Fakes of the price list service and of the spot price history, over plain HTTP, from fixtures.

The price list uses JSON 1.1 with the action in ``X-Amz-Target``; EC2 uses the query protocol with XML responses. The
formats follow botocore's models of ``pricing`` and ``ec2``. Both are paged, with few entries per page.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from aws_shapes import problem_of_json
from fake_server import Answer, FakeServer, Request

__all__ = ["PriceListFake", "SpotHistoryFake"]

_SERVICE = "AmazonEC2"


class PriceListFake:
    """The price list service.

    Args:
        products: Products in the format of `GetProducts`.
        page: Maximum entries per page, regardless of the request.
    """

    def __init__(self, products: Sequence[Mapping[str, Any]], *, page: int = 10) -> None:
        self.server = FakeServer()
        self.products = list(products)
        self.actions: list[str] = []
        """Actions called, in order."""
        self.failing: dict[str, Answer] = {}
        """Error responses by action."""
        self._page = page
        self.server.route("POST", "/", self._answer)

    def refuse(self, action: str, code: str, message: str, status: int = 400) -> None:
        """Fail an action."""
        self.failing[action] = Answer(
            status=status,
            body=json.dumps({"__type": code, "message": message}),
            headers={"Content-Type": "application/x-amz-json-1.1"},
        )

    def _answer(self, request: Request) -> Answer:
        action = request.headers.get("x-amz-target", "").partition("AWSPriceListService.")[2]
        self.actions.append(action)
        if action in self.failing:
            return self.failing[action]
        arguments = request.json()
        wrong = problem_of_json("pricing", action, arguments)
        if wrong is not None:
            return _error("InvalidParameterException", wrong[1])
        answers = {
            "DescribeServices": self._services,
            "GetAttributeValues": self._values,
            "GetProducts": self._matching,
        }
        if action not in answers:
            return _error("UnknownOperationException", f"unknown action {action!r}")
        if arguments.get("ServiceCode", _SERVICE) != _SERVICE:
            return _error("NotFoundException", "unknown service")
        key, entries = answers[action](arguments)
        start = int(arguments.get("NextToken") or 0)
        end = start + min(self._page, int(arguments.get("MaxResults") or 100))
        body: dict[str, Any] = {"FormatVersion": "aws_v1", key: entries[start:end]}
        if end < len(entries):
            body["NextToken"] = str(end)
        return Answer(body=json.dumps(body), headers={"Content-Type": "application/x-amz-json-1.1"})

    def _services(self, arguments: Mapping[str, Any]) -> tuple[str, list[Any]]:
        names = sorted({name for each in self.products for name in each["product"]["attributes"]})
        return "Services", [{"ServiceCode": _SERVICE, "AttributeNames": names}]

    def _values(self, arguments: Mapping[str, Any]) -> tuple[str, list[Any]]:
        values = {_attribute(each, arguments["AttributeName"]) for each in self.products}
        return "AttributeValues", [{"Value": value} for value in sorted(values - {None}, key=str)]

    def _matching(self, arguments: Mapping[str, Any]) -> tuple[str, list[Any]]:
        filters = arguments.get("Filters") or ()
        found = [
            each
            for each in self.products
            if all(_attribute(each, one["Field"]) == one["Value"] for one in filters if one["Type"] == "TERM_MATCH")
        ]
        return "PriceList", [json.dumps(each) for each in found]


class SpotHistoryFake:
    """EC2 with the spot price history only.

    Args:
        history: Entries with ``InstanceType``, ``AvailabilityZone``, ``SpotPrice``, ``Timestamp`` and
            ``ProductDescription``.
        page: Maximum entries per page, regardless of the request.
    """

    def __init__(self, history: Sequence[Mapping[str, str]], *, page: int = 10) -> None:
        self.server = FakeServer()
        self.history = list(history)
        self.requests: list[Mapping[str, str]] = []
        self.refusal: Answer | None = None
        self._page = page
        self.server.route("POST", "/", self._answer)

    def refuse(self, code: str, message: str, status: int = 400) -> None:
        """Fail every call."""
        body = (
            f"<Response><Errors><Error><Code>{code}</Code><Message>{escape(message)}</Message></Error></Errors>"
            "<RequestID>1</RequestID></Response>"
        )
        self.refusal = Answer(status=status, body=body, headers={"Content-Type": "text/xml"})

    def _answer(self, request: Request) -> Answer:
        arguments = dict(urllib.parse.parse_qsl(request.body.decode()))
        self.requests.append(arguments)
        if self.refusal is not None:
            return self.refusal
        platforms = {value for name, value in arguments.items() if name.startswith("ProductDescription.")}
        found = [each for each in self.history if not platforms or each["ProductDescription"] in platforms]
        start = int(arguments.get("NextToken") or 0)
        end = start + min(self._page, int(arguments.get("MaxResults") or 1000))
        items = "".join(f"<item>{_xml(each)}</item>" for each in found[start:end])
        token = str(end) if end < len(found) else ""
        body = (
            '<DescribeSpotPriceHistoryResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>1</requestId>'
            f"<spotPriceHistorySet>{items}</spotPriceHistorySet><nextToken>{token}</nextToken>"
            "</DescribeSpotPriceHistoryResponse>"
        )
        return Answer(body=body, headers={"Content-Type": "text/xml"})


def _xml(entry: Mapping[str, str]) -> str:
    return "".join(
        f"<{name[0].lower()}{name[1:]}>{escape(text)}</{name[0].lower()}{name[1:]}>" for name, text in entry.items()
    )


def _attribute(product: Mapping[str, Any], field: str) -> str | None:
    if field == "productFamily":
        return str(product["product"].get("productFamily"))
    value = product["product"]["attributes"].get(field)
    return None if value is None else str(value)


def _error(code: str, message: str) -> Answer:
    return Answer(
        status=400,
        body=json.dumps({"__type": code, "message": message}),
        headers={"Content-Type": "application/x-amz-json-1.1"},
    )
