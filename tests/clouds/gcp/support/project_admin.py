"""Fake of the services that make things in a project: Service Usage, IAM, Cloud Resource Manager, and the buckets of
Cloud Storage.

What was made is visible some requests later (`lag`), as at Google. Another person may change a policy or role between
a reading and a writing (`meanwhile`). Refusals have Google's formats: ``ErrorInfo`` in the details (AIP-193).
"""

from __future__ import annotations

import base64
import itertools
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from admin_buckets import Buckets
from admin_errors import NUMBER, Refusal, refused
from admin_iam import Iam
from admin_policies import Policy
from fake_server import Answer, FakeServer, Request

from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["ProjectAdmin", "project_admin"]


class ProjectAdmin:
    """Fake project; its fields may be changed at any time.

    Args:
        server: HTTP server of all its services.
    """

    def __init__(self, server: FakeServer, project: str = "p") -> None:
        self.server = server
        self.project = project
        self.enabled = {"serviceusage.googleapis.com", "storage.googleapis.com"}
        self.has_billing = True
        self.late_error: dict[str, Any] = {}
        """Error with which enabling services ends."""
        self.withheld: set[str] = set()
        """Permissions that the caller lacks."""
        self.used: set[str] = set()
        """Permissions that the calls so far needed."""
        self.lag = 0
        """Number of requests to which something new is not visible yet."""
        self.meanwhile: list[Callable[[], None]] = []
        """Changes by another person; each is made just before a write."""
        self.networks = {"default"}
        self.instances: list[dict[str, Any]] = []
        self.writes: list[tuple[str, str, Any]] = []
        """Method, path and body of every request that changed something."""
        self._lock = threading.Lock()
        self._unseen: Counter[str] = Counter()
        self._numbers = itertools.count(1)
        self._operations: dict[str, list[str]] = {}
        self.policy = Policy(self, {"role": "roles/owner", "members": ["user:sam@example.com"]})
        self.iam = Iam(self)
        self.buckets = Buckets(self)
        path = re.escape(f"/v1/projects/{project}")
        compute = rf"/compute{path}"
        for method, pattern, permission, handler, writes in (
            ("GET", rf"{path}/services:batchGet", "serviceusage.services.get", self._services, False),
            ("POST", rf"{path}/services:batchEnable", "serviceusage.services.enable", self._enable, True),
            ("GET", r"/v1/(?P<name>operations/.+)", "serviceusage.services.get", self._operation, False),
            ("POST", rf"{path}:getIamPolicy", "resourcemanager.projects.getIamPolicy", self._get_policy, False),
            ("POST", rf"{path}:setIamPolicy", "resourcemanager.projects.setIamPolicy", self._set_policy, True),
            ("GET", rf"{compute}/global/networks/(?P<name>[^/]+)", "compute.networks.get", self._network, False),
            ("GET", rf"{compute}/aggregated/instances", "compute.instances.list", self._instances, False),
        ):
            self.serve(method, pattern, permission, handler, writes=writes)

    @property
    def settings(self) -> GcpSettings:
        url = self.server.url
        return GcpSettings(
            project_id=self.project,
            compute_endpoint=url,
            resource_manager_endpoint=url,
            iam_endpoint=url,
            service_usage_endpoint=url,
            storage_endpoint=url,
        )

    # -- what the services share --

    def serve(
        self, method: str, path: str, permission: str, handler: Callable[[Request], Any], *, writes: bool = False
    ) -> None:
        """Register a method that needs a permission and its service."""
        service = f"{permission.partition('.')[0]}.googleapis.com".replace("resourcemanager", "cloudresourcemanager")

        def answer(request: Request) -> Any:
            try:
                self._admit(service, permission)
                if writes:
                    if self.meanwhile:
                        self.meanwhile.pop(0)()
                    self.writes.append((request.method, request.path, request.json()))
                with self._lock:
                    return handler(request)
            except Refusal as refusal:
                return refusal.answer

        self.server.route(method, path, answer)

    def appear(self, name: str) -> None:
        """Make something new, which the next requests do not find."""
        self._unseen[name] = self.lag

    def is_visible(self, name: str) -> bool:
        """Return whether a request finds something; the later ones do."""
        self._unseen[name] -= 1
        return self._unseen[name] < 0

    def etag(self) -> str:
        return base64.b64encode(next(self._numbers).to_bytes(8)).decode()

    def _admit(self, service: str, permission: str) -> None:
        if service not in self.enabled or not self.is_visible(service):
            message = (
                f"{service} has not been used in project {NUMBER} before or it is disabled. Enable it by visiting "
                f"https://console.developers.google.com/apis/api/{service}/overview?project={NUMBER} then retry."
            )
            raise refused(403, message, reason="SERVICE_DISABLED", service=service, consumer=f"projects/{NUMBER}")
        self.used.add(permission)
        if permission in self.withheld:
            message = f"Permission '{permission}' denied on resource (or it may not exist)."
            raise refused(403, message, reason="IAM_PERMISSION_DENIED", permission=permission)

    # -- Service Usage --

    def _services(self, request: Request) -> Any:
        names = [each.rpartition("/")[2] for each in request.all_query["names"]]
        return {
            "services": [
                {
                    "name": f"projects/{NUMBER}/services/{name}",
                    "parent": f"projects/{NUMBER}",
                    "state": "ENABLED" if name in self.enabled else "DISABLED",
                }
                for name in names
            ]
        }

    def _enable(self, request: Request) -> Any:
        names = request.json()["serviceIds"]
        assert len(names) <= 20  # "Method: services.batchEnable"
        if not self.has_billing:
            message = (
                f"Billing account for project '{NUMBER}' is not found. Billing must be enabled for activation of "
                f"service(s) '{','.join(names)}' to proceed."
            )
            raise refused(400, message, name="FAILED_PRECONDITION", reason="UREQ_PROJECT_BILLING_NOT_FOUND")
        name = f"operations/acf.p2-{NUMBER}-{next(self._numbers)}"
        self._operations[name] = names
        self.appear(name)
        return {"name": name}

    def _operation(self, request: Request) -> Any:
        name = request.groups["name"]
        if not self.is_visible(name):
            return {"name": name}
        if self.late_error:
            return {"name": name, "done": True, "error": self.late_error}
        for service in self._operations[name]:
            if service not in self.enabled:
                self.enabled.add(service)
                self.appear(service)
        return {"name": name, "done": True, "response": {"services": []}}

    # -- Cloud Resource Manager --

    def _get_policy(self, request: Request) -> Any:
        return self.policy.read(request.json().get("options", {}).get("requestedPolicyVersion"))

    def _set_policy(self, request: Request) -> Any:
        return self.policy.write(request.json()["policy"])

    # -- Compute Engine --

    def _network(self, request: Request) -> Any:
        name = request.groups["name"]
        if name in self.networks:
            return {"kind": "compute#network", "name": name}
        message = f"The resource 'projects/{self.project}/global/networks/{name}' was not found"
        errors = [{"message": message, "domain": "global", "reason": "notFound"}]
        return Answer(status=404, body={"error": {"code": 404, "message": message, "errors": errors}})

    def _instances(self, request: Request) -> Any:
        assert request.query["filter"] == "labels.cloud-tasks-job:*"
        return {
            "kind": "compute#instanceAggregatedList",
            "items": {"zones/us-central1-a": {"instances": self.instances}},
        }


@contextmanager
def project_admin(project: str = "p") -> Iterator[ProjectAdmin]:
    """Run a fake project."""
    with FakeServer().serving() as server:
        yield ProjectAdmin(server, project)
