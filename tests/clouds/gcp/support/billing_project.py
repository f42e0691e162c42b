"""Fake of the services that `cloud-tasks doctor` calls: a project without problems unless a test changes it.

Its errors have Google's formats: ``ErrorInfo`` in the details (AIP-193), and Compute Engine's older ``errors``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from billing_fake import BillingFake, google_error
from fake_server import Answer, FakeServer, Request

from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["DEFAULT", "ROBOT", "GoogleFake", "disabled", "not_found", "one_metric"]

ROBOT = "robot@p.iam.gserviceaccount.com"
DEFAULT = "1234-compute@developer.gserviceaccount.com"
"""Default service account of the project."""


class GoogleFake:
    """Fake project ``p``; its fields may be changed at any time.

    Args:
        server: HTTP server.
    """

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.billing = BillingFake(server)
        self.refused: dict[str, Answer] = {}
        """Error responses by the end of the path."""
        self.withheld: set[str] = set()
        """Permissions that the caller lacks."""
        self.exhausted: set[str] = set()
        """Exhausted quota metrics."""
        self.private_access = False
        self.roles = {"roles/editor": [f"serviceAccount:{ROBOT}", "user:sam@example.com"]}
        """Members by role; the default service account has none, as in organizations made since May 2024."""
        project = "/compute/v1/projects/p"
        server.route("GET", "/v1/projects/p/topics", self._unless_refused({"topics": []}))
        server.route("GET", "/v3/projects/p/timeSeries", self._unless_refused(one_metric))
        server.route("GET", project, self._unless_refused(self._project))
        server.route("GET", f"{project}/regions/us-central1", self._unless_refused(self._region))
        server.route(
            "GET",
            f"{project}/global/networks/default",
            self._unless_refused({"kind": "compute#network", "name": "default"}),
        )
        server.route("GET", f"{project}/regions/us-central1/subnetworks/private", self._subnetwork)
        server.route("POST", "/v1/projects/p:testIamPermissions", self._unless_refused(self._permissions))
        server.route("POST", "/v1/projects/p:getIamPolicy", self._unless_refused(self._policy))
        server.route(
            "POST",
            f"/v1/projects/-/serviceAccounts/{ROBOT}:testIamPermissions",
            self._unless_refused(self._permissions),
        )
        server.route("GET", ".*", lambda request: not_found(request.path))
        server.route("POST", ".*", lambda request: not_found(request.path))

    @property
    def settings(self) -> GcpSettings:
        return GcpSettings(
            project_id="p",
            service_account=ROBOT,
            compute_endpoint=self.server.url,
            billing_endpoint=self.server.url,
            resource_manager_endpoint=self.server.url,
            iam_endpoint=self.server.url,
            pubsub_endpoint=self.server.url.removeprefix("http://"),
            monitoring_endpoint=self.server.url,
        )

    def _unless_refused(self, body: Any) -> Callable[[Request], Any]:
        def answer(request: Request) -> Any:
            for end, refusal in self.refused.items():
                if request.path.endswith(end):
                    return refusal
            return body(request) if callable(body) else body

        return answer

    def _quotas(self, *metrics: str) -> Callable[[Request], Any]:
        return lambda request: {
            "kind": "compute#resource",
            "quotas": [
                {"metric": metric, "limit": 24.0, "usage": 24.0 if metric in self.exhausted else 8.0}
                for metric in metrics
            ],
        }

    def _project(self, request: Request) -> Any:
        return {**self._quotas("CPUS_ALL_REGIONS")(request), "defaultServiceAccount": DEFAULT}

    def _policy(self, request: Request) -> Any:
        return {"bindings": [{"role": role, "members": members} for role, members in self.roles.items()]}

    def _region(self, request: Request) -> Any:
        zones = [f"https://www.googleapis.com/compute/v1/projects/p/zones/us-central1-{each}" for each in "abc"]
        return {**self._quotas("CPUS", "IN_USE_ADDRESSES")(request), "status": "UP", "zones": zones}

    def _subnetwork(self, request: Request) -> Any:
        return {"kind": "compute#subnetwork", "name": "private", "privateIpGoogleAccess": self.private_access}

    def _permissions(self, request: Request) -> Any:
        return {"permissions": [each for each in request.json()["permissions"] if each not in self.withheld]}


def one_metric(request: Request, series: Sequence[Mapping[str, Any]] = ()) -> Any:
    """Return the response of Cloud Monitoring's ``timeSeries.list``: the series of the one metric in the filter.

    It refuses a filter with more metrics: "The filter must specify a single metric type".
    """
    metrics = re.findall(r'"(pubsub\.googleapis\.com/[^"]+)"', request.query["filter"])
    if len(metrics) != 1:
        message = (
            "Field filter had an invalid value: The provided filter matches more than one metric. "
            "TimeSeries data are limited to a single metric per request."
        )
        return google_error(400, "INVALID_ARGUMENT", message, name="INVALID_ARGUMENT")
    return {"timeSeries": [each for each in series if each["metric"].get("type") in (metrics[0], None)]}


def not_found(path: str) -> Answer:
    """Return Compute Engine's response for a missing resource."""
    message = f"The resource '{path.removeprefix('/compute/v1/')}' was not found"
    reasons = [{"message": message, "domain": "global", "reason": "notFound"}]
    return Answer(status=404, body={"error": {"code": 404, "message": message, "errors": reasons}})


def disabled(service: str, title: str) -> Answer:
    return google_error(
        403,
        "SERVICE_DISABLED",
        f"{title} has not been used in project 1234 before or it is disabled. Enable it by visiting "
        f"https://console.developers.google.com/apis/api/{service}/overview?project=1234 then retry.",
        metadata={"service": service, "consumer": "projects/1234"},
    )
