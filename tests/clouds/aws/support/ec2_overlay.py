"""EC2 fake for whole jobs: an HTTP overlay over moto.

moto stores networks, images, instance descriptions and tags. The overlay adds what moto lacks: idempotent client
tokens, pages, the filters `client-token` and `instance-lifecycle`, refusals of missing images and types, capacity
errors, current spot prices, state transitions, interruptions, and user data that runs as a real process, each instance
with its own metadata service. Other calls are forwarded.

As a process: ``python ec2_overlay.py --folder DIR`` prints its URL, and ends its instances on SIGTERM. Tests control
it with ``POST /_admin/<verb>`` and a JSON object; see `Admin`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import logging
import signal
import sys
import threading
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

from account_calls import AccountCalls
from aws_shapes import problem_of_form
from ec2_admin import Admin
from ec2_calls import REGION, InstanceCalls
from ec2_faults import ApiFaults
from ec2_instances import Fleet, Pace
from ec2_metadata import Metadata
from ec2_xml import Ec2Error, Form, answer, error_answer, page, parse
from fake_server import Answer, FakeServer, Request

__all__ = ["Overlay"]

_PAGED = {
    "DescribeImages": "imagesSet",
    "DescribeInstances": "reservationSet",
    "DescribeInstanceTypes": "instanceTypeSet",
    "DescribeInstanceTypeOfferings": "instanceTypeOfferingSet",
    "DescribeSpotPriceHistory": "spotPriceHistorySet",
    "DescribeSubnets": "subnetSet",
}
_KEPT = (
    "content-range",
    "content-type",
    "etag",
    "last-modified",
    "x-amz-bucket-region",
    "x-amzn-query-error",
    "x-amzn-requestid",
)
"""Headers of responses that are passed on."""
_CANONICAL = "/aws/service/canonical/ubuntu/server/"


class Overlay(FakeServer):
    """The overlay's HTTP server; `start` and `close` as in every `FakeServer`.

    Args:
        moto: Host and port of a moto server.
        folder: Parent of the instances' folders.
        page_limit: Maximum instances per page, regardless of the request; None: as EC2.
        upstream: URLs that serve other services than EC2 instead of moto, by service name: ``http://127.0.0.1:4566``.
    """

    def __init__(
        self,
        moto: tuple[str, int],
        folder: Path,
        *,
        pace: Pace | None = None,
        page_limit: int | None = None,
        upstream: Mapping[str, str] | None = None,
        seed: int = 1,
    ) -> None:
        super().__init__(seed=seed)
        self._moto = moto
        self._upstream = dict(upstream or {})
        self._page_limit = page_limit
        self._headers: Mapping[str, str] = {}
        # vCPUs of the standard families, on-demand and spot.
        self._quotas = {"L-1216C47A": 256.0, "L-34B43A08": 256.0}
        self._faults = ApiFaults(seed=seed)
        self._actions: list[str] = []
        self._refusals: dict[str, Mapping[str, str]] = {}
        self._called: set[tuple[str, str]] = set()
        self._fleet = Fleet(folder, base_url=self.url, pace=pace or Pace(), seed=seed)
        self._account = AccountCalls()
        self._calls = InstanceCalls(self._ask, self._fleet, self._account)
        Metadata(self._fleet, region=REGION).register(self)
        self.route("POST", r"/_machine/(?P<id>[^/]+)/power-off", self._power_off)
        Admin(
            self._calls,
            self._faults,
            account=self._account,
            quotas=self._quotas,
            actions=self._actions,
            refusals=self._refusals,
            called=self._called,
        ).register(self)

    def close(self) -> None:
        super().close()
        self._fleet.close()

    # -- HTTP --------------------------------------------------------------------------------------------------------

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer | None:
        path = urllib.parse.urlsplit(target).path
        if path.startswith(("/imds/", "/_machine/", "/_admin/")):
            return super().answer(method, target, headers, body)
        is_json = "x-amz-target" in headers
        return self._faults.through(lambda: self._api(method, target, headers, body), is_json=is_json)

    def _api(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        operation = headers.get("x-amz-target", "")
        self._record(headers, target, operation, body)
        refusal = self._refusal(headers, target, operation, body)
        if refusal is not None:
            return refusal
        if operation.endswith(".GetServiceQuota"):
            return self._quota(json.loads(body))
        if operation == "AmazonSSM.GetParameter" and _CANONICAL in body.decode():
            body = _amazon_parameter(body)
            headers = {**headers, "content-length": str(len(body))}
        service = _service(headers, target)
        if service in ("iam", "s3", "sts"):
            return self._account.answer(method, target, headers, body, service=service, forward=self._forward)
        if service != "ec2":
            return self._forward(method, target, headers, body)
        form = Form.read(body)
        action = form.get("Action")
        self._actions.append(action)
        self._headers = headers
        wrong = problem_of_form(form.values)
        if wrong is not None:
            return error_answer(Ec2Error(*wrong))
        if denied := self._account.refusal(f"ec2:{action}"):
            text = f"You are not authorized to perform this operation. {denied}"
            return error_answer(Ec2Error("UnauthorizedOperation", text, status=403))
        try:
            return self._ec2(action, form, headers, body)
        except Ec2Error as error:
            return error_answer(error)

    def _refusal(self, headers: Mapping[str, str], target: str, operation: str, body: bytes) -> Answer | None:
        """Return the refusal that a test asked for; None for other calls."""
        if not self._refusals:
            return None
        action = operation.rpartition(".")[2] or Form.read(body).get("Action")
        rule = self._refusals.get(action)
        if rule is None or rule["region"] not in ("", _scope(headers, target)[2]):
            return None
        if operation:
            return Answer(status=400, body={"__type": rule["code"], "message": rule["message"]})
        status = 403 if rule["code"] == "UnauthorizedOperation" else 400
        return error_answer(Ec2Error(rule["code"], rule["message"], status=status))

    def _record(self, headers: Mapping[str, str], target: str, operation: str, body: bytes) -> None:
        """Record the action and its caller; S3 requests contain no action name."""
        key, service = _signature(headers, target)
        if service != "s3":
            action = operation.rpartition(".")[2] or Form.read(body).get("Action")
            self._called.add((key, f"{service}:{action}"))

    def _ec2(self, action: str, form: Form, headers: Mapping[str, str], body: bytes) -> Answer:
        if form.get("DryRun") == "true" and action != "RunInstances":
            raise Ec2Error("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", status=412)
        container = _PAGED.get(action)
        handler = self._calls.by_action.get(action)
        if handler is None and container is None:
            return self._forward("POST", "/", headers, body)
        if handler is not None:
            root = handler(form)
        else:
            forwarded = self._forward("POST", "/", headers, form.without("MaxResults", "NextToken").encoded())
            if forwarded.status != 200:
                return forwarded
            root = parse(forwarded.body)
        if container is not None:
            limit = {"DescribeInstances": self._page_limit, "DescribeInstanceTypes": 100}.get(action, 1000)
            page(root, container, form, limit=limit)
        return answer(root)

    def _forward(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        host, port = self._address(_service(headers, target))
        connection = http.client.HTTPConnection(host, port, timeout=60)
        try:
            sent = {name: value for name, value in headers.items() if name not in ("host", "content-length", "expect")}
            connection.request(method, target, body=body, headers={**sent, "Host": headers.get("host", "localhost")})
            response = connection.getresponse()
            content = response.read()
            if method == "HEAD":
                # Only its length is sent.
                content = bytes(int(response.headers.get("content-length") or 0))
        finally:
            connection.close()
        found = {name: value for name, value in response.getheaders() if name.lower() in _KEPT}
        return Answer(status=response.status, body=content, headers=found)

    def _address(self, service: str) -> tuple[str, int]:
        url = self._upstream.get(service)
        if url is None:
            return self._moto
        parts = urllib.parse.urlsplit(url)
        return parts.hostname or "127.0.0.1", parts.port or 80

    def _ask(self, form: Form) -> bytes:
        """Execute an EC2 call in moto with the credentials of the last caller."""
        found = self._forward("POST", "/", self._headers, form.encoded())
        if found.status != 200:
            error = parse(found.body).find(".//Error")
            code, message = ("InternalError", "moto") if error is None else (error.findtext("Code", ""), "")
            raise Ec2Error(
                code, message or ("" if error is None else error.findtext("Message", "")), status=found.status
            )
        content: bytes = found.body
        return content

    def _quota(self, wanted: Mapping[str, str]) -> Answer:
        code = wanted["QuotaCode"]
        if code not in self._quotas:
            return Answer(status=400, body={"__type": "NoSuchResourceException", "Message": f"no quota {code}"})
        quota = {"ServiceCode": wanted["ServiceCode"], "QuotaCode": code, "QuotaName": f"Quota {code}"}
        return Answer(body={"Quota": {**quota, "Value": self._quotas[code]}})

    def _power_off(self, request: Request) -> Answer:
        self._fleet.power_off(request.groups["id"])
        return Answer(body="")


def _service(headers: Mapping[str, str], target: str = "/") -> str:
    return _signature(headers, target)[1]


def _signature(headers: Mapping[str, str], target: str) -> tuple[str, str]:
    """Return access key id and service of a signed request."""
    parts = _scope(headers, target)
    return parts[0], parts[3] or "ec2"


def _scope(headers: Mapping[str, str], target: str) -> list[str]:
    """Return access key id, date, region and service of a signed request, from its header or URL."""
    signed = headers.get("authorization", "").partition("Credential=")[2].partition(",")[0]
    if not signed:
        signed = urllib.parse.parse_qs(urllib.parse.urlsplit(target).query).get("X-Amz-Credential", [""])[0]
    return [*signed.split("/"), "", "", "", ""][:4]


def _amazon_parameter(body: bytes) -> bytes:
    """Replace Canonical's image parameter by Amazon's of the same architecture, which moto has."""
    wanted = json.loads(body)
    cpu = "arm64" if "/arm64/" in wanted["Name"] else "x86_64"
    wanted["Name"] = f"/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{cpu}"
    return json.dumps(wanted).encode()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="EC2 fake over moto, with running instances")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--page-limit", type=int)
    parser.add_argument("--boot", type=float, default=Pace().boot)
    parser.add_argument("--spot-lifetime", type=float)
    parser.add_argument("--spot-notice", type=float, default=Pace().spot_notice)
    parser.add_argument("--upstream", action="append", default=[], help="service=url")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    pace = Pace(boot=options.boot, spot_lifetime=options.spot_lifetime, spot_notice=options.spot_notice)
    overlay = Overlay(
        moto.get_host_and_port(),
        options.folder,
        pace=pace,
        page_limit=options.page_limit,
        upstream=dict(each.split("=", 1) for each in options.upstream),
        seed=options.seed,
    )
    with overlay.serving():
        print(overlay.url, flush=True)
        stop.wait()
    moto.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
