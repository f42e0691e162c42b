"""Calls of IAM, STS and S3 in one account: what moto lacks of the real services.

Missing permissions, which are named; buckets of other accounts; the account that must own a bucket; service-linked
roles of EC2; and what was made or changed a moment ago is not seen yet. Policies of buckets are stored and have no
effect: all requests count as sent over TLS.

Sources: "Common errors" of the IAM API reference, "Error responses" of the Amazon S3 API reference, "Troubleshoot
access denied error messages" and "Using service-linked roles", IAM user guide.
"""

from __future__ import annotations

import threading
import urllib.parse
from collections.abc import Callable, Mapping
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import attrs
from ec2_xml import Form
from fake_server import Answer

__all__ = ["AccountCalls", "permission_of"]

_SERVICE_ROLES = {
    "spot.amazonaws.com": "AWSServiceRoleForEC2Spot",
    "ec2fleet.amazonaws.com": "AWSServiceRoleForEC2Fleet",
}
_SUBJECTS = ("RoleName", "InstanceProfileName")
_OF_BUCKETS = {
    "lifecycle": "LifecycleConfiguration",
    "ownershipControls": "BucketOwnershipControls",
    "policy": "BucketPolicy",
    "publicAccessBlock": "BucketPublicAccessBlock",
    "tagging": "BucketTagging",
}
"""Permissions of S3 by the parameter of the URL, without the verb."""
_WITHOUT_PARAMETER = {"GET": "ListBucket", "HEAD": "ListBucket", "PUT": "CreateBucket", "DELETE": "DeleteBucket"}

Forward = Callable[[str, str, Mapping[str, str], bytes], Answer]


@attrs.frozen
class _Request:
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    service: str

    @property
    def form(self) -> Form:
        return Form.read(self.body if self.service != "s3" else b"")

    @property
    def bucket(self) -> str:
        path = urllib.parse.urlsplit(self.target).path
        return path.strip("/").partition("/")[0] if self.service == "s3" else ""

    @property
    def subject(self) -> str:
        """The thing that the call is about: a role, an instance profile, a bucket with one of its settings."""
        if self.service == "s3":
            return f"{self.bucket}?{permission_of(self.method, self.target)[3:]}"
        return next((f"{name}={self.form.get(name)}" for name in _SUBJECTS if self.form.get(name)), "")


@attrs.define
class AccountCalls:
    """The account that calls are made in. Thread-safe.

    Args:
        number: Account id.
        lag: Number of times that something is not seen after it was made or changed.
    """

    number: str = "123456789012"
    lag: int = 0
    denied: set[str] = attrs.field(factory=set)
    """Permissions that are missing: ``iam:CreateRole``."""
    foreign: set[str] = attrs.field(factory=set)
    """Buckets of other accounts."""
    permissions: set[str] = attrs.field(factory=set)
    """Permissions of the calls so far."""
    unowned: set[str] = attrs.field(factory=set)
    """Calls about buckets that did not say which account must own it."""
    _service_roles: set[str] = attrs.field(factory=set)
    _policies: dict[str, bytes] = attrs.field(factory=dict)
    """Policies of buckets."""
    _unseen: dict[str, int] = attrs.field(factory=dict)
    """How often each thing is not seen from now on."""
    _stale: dict[str, Answer] = attrs.field(factory=dict)
    """What is still read of a changed setting."""
    _guard: threading.RLock = attrs.field(factory=threading.RLock)

    def enter(self, number: str, lag: int) -> None:
        """Start with another account."""
        self.number, self.lag = number, lag
        for each in (self.denied, self.foreign, self.permissions, self.unowned, self._service_roles):
            each.clear()
        self._unseen.clear()
        self._stale.clear()
        self._policies.clear()

    def is_profile_unseen(self, name: str) -> bool:
        """Return whether EC2 does not know a new instance profile yet."""
        return self._is_unseen(f"ec2:{name}")

    def refusal(self, permission: str) -> str:
        """Return the message for a missing permission; empty if it is not missing."""
        self.permissions.add(permission)
        if permission not in self.denied:
            return ""
        caller = f"arn:aws:iam::{self.number}:user/person"
        reason = f"because no identity-based policy allows the {permission} action"
        return f"User: {caller} is not authorized to perform: {permission} on resource: * {reason}"

    def answer(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, *, service: str, forward: Forward
    ) -> Answer:
        """Return the answer to a call of IAM, STS or S3."""
        request = _Request(method, target, {**headers, "x-moto-account-id": self.number}, body, service)
        return self._answer(request, lambda r: self._policy(r) or forward(r.method, r.target, r.headers, r.body))

    def _answer(self, request: _Request, forward: Callable[[_Request], Answer]) -> Answer:
        refused = self._s3_refusal(request) if request.service == "s3" else self._iam_refusal(request)
        if refused is not None:
            return refused
        action = request.form.get("Action")
        if action == "CreateServiceLinkedRole":
            return self._create_service_role(request.form.get("AWSServiceName"))
        if action == "GetRole" and request.form.get("RoleName") in self._service_roles:
            return _role(request.form.get("RoleName"))
        read = request.subject if request.method in ("GET", "HEAD") else f"{action} {request.subject}"
        if read in self._stale and self._is_unseen(read):
            return self._stale[read]
        if action == "RemoveRoleFromInstanceProfile":
            self._keep_profiles(request, forward)
        if request.method == "PUT" and "uploadId=cloud-tasks-doctor" in request.target:
            # moto fails for an upload that it does not know.
            found = forward(attrs.evolve(request, method="GET", target=f"/{request.bucket}?location", body=b""))
            unknown = _s3_error("NoSuchUpload", "The specified upload does not exist.", status=404)
            return unknown if found.status == 200 else found
        is_change = self.lag > 0 and request.method == "PUT" and "?Put" in request.subject
        before = forward(attrs.evolve(request, method="GET", body=b"")) if is_change else Answer()
        found = forward(request)
        if found.status >= 300:
            return found
        self._note(request, before if is_change else None)
        return found

    def _policy(self, request: _Request) -> Answer | None:
        """Return the answer to a call about the policy of a bucket; None for others. It ends with the bucket."""
        permission = permission_of(request.method, request.target) if request.service == "s3" else ""
        if permission in ("s3:DeleteBucket", "s3:DeleteBucketPolicy"):
            self._policies.pop(request.bucket, None)
        if not permission.endswith("BucketPolicy"):
            return None
        if request.method == "PUT":
            self._policies[request.bucket] = request.body
        if request.method != "GET":
            return Answer(status=204)
        found = self._policies.get(request.bucket)
        missing = _s3_error("NoSuchBucketPolicy", "The bucket policy does not exist", status=404)
        return missing if found is None else Answer(body=found, headers={"Content-Type": "application/json"})

    def _note(self, request: _Request, before: Answer | None) -> None:
        """Note what was made or changed, which is not seen at once."""
        action = request.form.get("Action")
        if before is not None:
            subject = request.subject.replace("?Put", "?Get")
            self._stale[subject] = before
            self._unseen[subject] = self.lag
        elif request.subject.endswith("?CreateBucket"):
            self._unseen[request.bucket] = self.lag
        elif action in ("CreateRole", "CreateInstanceProfile"):
            self._unseen[request.subject] = self.lag
        elif action == "AddRoleToInstanceProfile":
            self._unseen[f"ec2:{request.form.get('InstanceProfileName')}"] = self.lag

    def _keep_profiles(self, request: _Request, forward: Callable[[_Request], Answer]) -> None:
        """Let a role still be listed with its instance profiles."""
        form = Form({"Action": "ListInstanceProfilesForRole", "RoleName": request.form.get("RoleName")})
        listed = attrs.evolve(request, body=form.encoded())
        subject = f"ListInstanceProfilesForRole {listed.subject}"
        self._stale[subject] = forward(listed)
        self._unseen[subject] = self.lag

    def _is_unseen(self, subject: str) -> bool:
        with self._guard:
            left = self._unseen.get(subject, 0)
            self._unseen[subject] = max(0, left - 1)
            return left > 0

    def _iam_refusal(self, request: _Request) -> Answer | None:
        form = request.form
        action = form.get("Action")
        if message := self.refusal(f"{request.service}:{action}"):
            return _iam_error("AccessDenied", message, status=403)
        if action.startswith("Create") or not request.subject:
            return None
        for name in _SUBJECTS:
            if form.get(name) and self._is_unseen(f"{name}={form.get(name)}"):
                text = f"{name.removesuffix('Name')} {form.get(name)} cannot be found."
                return _iam_error("NoSuchEntity", text, status=404)
        return None

    def _s3_refusal(self, request: _Request) -> Answer | None:
        permission = permission_of(request.method, request.target)
        if permission != "s3:CreateBucket" and "x-amz-expected-bucket-owner" not in request.headers:
            self.unowned.add(permission)
        if request.bucket in self.foreign:
            if permission == "s3:CreateBucket":
                text = "The requested bucket name is not available. The bucket namespace is shared by all users of the"
                return _s3_error("BucketAlreadyExists", f"{text} system. Please select a different name.", status=409)
            return _s3_error("AccessDenied", "Access Denied", status=403)
        if message := self.refusal(permission):
            return _s3_error("AccessDenied", message, status=403)
        if request.headers.get("x-amz-expected-bucket-owner", self.number) != self.number:
            return _s3_error("AccessDenied", "Access Denied", status=403)
        if permission != "s3:CreateBucket" and self._is_unseen(request.bucket):
            return _s3_error("NoSuchBucket", "The specified bucket does not exist", status=404)
        return None

    def _create_service_role(self, service: str) -> Answer:
        name = _SERVICE_ROLES.get(service)
        if name is None:
            return _iam_error("InvalidInput", f"Invalid service name: {service}", status=400)
        with self._guard:
            is_taken = name in self._service_roles
            self._service_roles.add(name)
        if is_taken:
            text = f"Service role name {name} has been taken in this account, please try a different suffix."
            return _iam_error("InvalidInput", text, status=400)
        self._unseen[f"RoleName={name}"] = self.lag
        return _role(name, action="CreateServiceLinkedRole")


def permission_of(method: str, target: str) -> str:
    """Return the permission that a request to S3 needs."""
    parts = urllib.parse.urlsplit(target)
    if "/" in parts.path.strip("/"):
        return "s3:GetObject" if method in ("GET", "HEAD") else f"s3:{method.title()}Object"
    parameters = urllib.parse.parse_qs(parts.query, keep_blank_values=True)
    for name, found in _OF_BUCKETS.items():
        if name in parameters:
            return f"s3:{method.title()}{found}"
    return f"s3:{_WITHOUT_PARAMETER.get(method, method)}"


def _role(name: str, action: str = "GetRole") -> Answer:
    root = ElementTree.Element(f"{action}Response")
    role = ElementTree.SubElement(ElementTree.SubElement(root, f"{action}Result"), "Role")
    fields = {"Path": "/aws-service-role/", "RoleName": name, "RoleId": "AROA", "Arn": f"arn:aws:iam::1:role/{name}"}
    for key, value in {**fields, "CreateDate": "2026-01-01T00:00:00Z", "AssumeRolePolicyDocument": "%7B%7D"}.items():
        ElementTree.SubElement(role, key).text = value
    return Answer(body=ElementTree.tostring(root), headers={"Content-Type": "text/xml"})


def _iam_error(code: str, message: str, *, status: int) -> Answer:
    body = f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    return Answer(status=status, body=f"{body}<RequestId>1</RequestId></ErrorResponse>".encode(), headers=_XML)


def _s3_error(code: str, message: str, *, status: int) -> Answer:
    body = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message><RequestId>1</RequestId></Error>"
    return Answer(status=status, body=body.encode(), headers=_XML)


_XML = {"Content-Type": "text/xml"}
