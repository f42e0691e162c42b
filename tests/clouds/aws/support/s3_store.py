"""S3 with signatures: objects of one bucket, read by presigned addresses that are verified as S3 does.

Calls of the controller, which carry a signature in a header, are accepted as they are. Sources: "Authenticating
Requests: Using Query Parameters (AWS Signature Version 4)" and "Error responses" in the Amazon S3 API reference.
"""

from __future__ import annotations

import hashlib
import hmac
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from xml.sax.saxutils import escape

import attrs
from fake_server import Answer, FakeServer, Request

from cloud_tasks_aws.settings import AwsSettings

__all__ = ["S3Store", "s3_store"]

_ALGORITHM = "AWS4-HMAC-SHA256"
_WEEK = 604_800


@attrs.define
class Key:
    """An access key."""

    secret: str
    token: str = ""
    """Session token of temporary credentials."""
    ends_at: datetime | None = None
    may_read: bool = True
    may_write: bool = True


class S3Store:
    """One bucket in one region.

    Args:
        region: Region of the bucket.
    """

    def __init__(self, bucket: str, region: str) -> None:
        self.bucket = bucket
        self.region = region
        self.keys = {"AKIDEXAMPLE": Key("s3cr/et+key"), "ASIATEMPORARY": Key("other", token="t0ken/+==")}
        self.objects: dict[str, bytes] = {}
        self.ahead = timedelta(0)
        """Time by which the clock of the store is ahead."""
        self.used: set[str] = set()
        """Actions of the calls so far ("Actions, resources, and condition keys for Amazon S3")."""
        self.downloads: list[str] = []
        """Names of the objects that were read by signed addresses, so by instances."""
        self.server = FakeServer()
        self.server.route("HEAD", r"/(?P<bucket>[^/]+)", self._head_bucket)
        for method, handler in (
            ("GET", self._get),
            ("HEAD", self._get),
            ("PUT", self._put),
            ("DELETE", self._delete),
        ):
            self.server.route(method, r"/(?P<bucket>[^/]+)/(?P<name>.+)", handler)
        self.server.route("GET", r"/(?P<bucket>[^/]+)/?", self._list)

    def settings(self, key: str = "AKIDEXAMPLE") -> AwsSettings:
        found = self.keys[key]
        return AwsSettings(
            s3_endpoint=self.server.url,
            region="us-east-1",
            access_key=key,
            secret_key=found.secret,
            session_token=found.token or None,
        )

    @property
    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def put(self, url: str, content: bytes) -> None:
        """Store an object."""
        self.objects[url.partition("://")[2].partition("/")[2]] = content

    def advance(self, duration: timedelta) -> None:
        self.ahead += duration

    def _head_bucket(self, request: Request) -> Answer:
        self.used.add("s3:ListBucket")
        known = request.groups["bucket"] == self.bucket
        return Answer(status=200 if known else 404, headers={"x-amz-bucket-region": self.region} if known else {})

    def _list(self, request: Request) -> Answer:
        self.used.add("s3:ListBucket")
        prefix = request.query.get("prefix", "")
        found = sorted(name for name in self.objects if name.startswith(prefix))
        entries = "".join(
            f"<Contents><Key>{escape(name)}</Key><Size>{len(self.objects[name])}</Size></Contents>" for name in found
        )
        body = (
            f"<ListBucketResult><Name>{self.bucket}</Name><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
        )
        return Answer(body=body.encode(), headers={"Content-Type": "application/xml"})

    def _put(self, request: Request) -> Answer:
        self.used.add("s3:PutObject")
        if request.groups["bucket"] != self.bucket:
            return _error(404, "NoSuchBucket", "The specified bucket does not exist")
        key = request.headers.get("authorization", "").partition("Credential=")[2].partition("/")[0]
        if key not in self.keys or not self.keys[key].may_write:
            return _error(403, "AccessDenied", "Access Denied")
        if "uploadId" in request.query:
            return _error(404, "NoSuchUpload", "The specified upload does not exist.")
        self.objects[request.groups["name"]] = request.body
        return Answer(headers={"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'})

    def _delete(self, request: Request) -> Answer:
        self.used.add("s3:DeleteObject")
        self.objects.pop(request.groups["name"], None)
        return Answer(status=204)

    def _get(self, request: Request) -> Answer:
        self.used.add("s3:GetObject")
        signature = request.headers.get("authorization", "").startswith(_ALGORITHM)
        refused = None if signature else self._verify(request)
        if refused is not None:
            return refused
        content = self.objects.get(request.groups["name"])
        if content is None:
            return _error(404, "NoSuchKey", "The specified key does not exist.")
        if not signature:
            self.downloads.append(request.groups["name"])
        return Answer(body=content, headers={"Last-Modified": formatdate(usegmt=True)})

    def _verify(self, request: Request) -> Answer | None:
        """Return the refusal of a presigned address; None for a valid one."""
        query = request.query
        if "X-Amz-Signature" not in query:
            return _error(403, "AccessDenied", "Access Denied")
        ident, date, region, *_ = query["X-Amz-Credential"].split("/")
        key = self.keys.get(ident)
        if key is None:
            return _error(
                403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."
            )
        if region != self.region:
            text = "Error parsing the X-Amz-Credential parameter; "
            text += f"the region '{region}' is wrong; expecting '{self.region}'"
            return _error(400, "AuthorizationQueryParametersError", text)
        if int(query["X-Amz-Expires"]) > _WEEK:
            text = "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less"
            return _error(400, "AuthorizationQueryParametersError", f"{text} than {_WEEK} seconds")
        if query.get("X-Amz-Security-Token", "") != key.token:
            return _error(
                403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."
            )
        if not hmac.compare_digest(
            _signature(request, key.secret, f"{date}/{region}/s3/aws4_request"), query["X-Amz-Signature"]
        ):
            text = (
                "The request signature we calculated does not match the signature you provided."
                " Check your key and signing method."
            )
            return _error(403, "SignatureDoesNotMatch", text)
        signed_at = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if self.now > signed_at + timedelta(seconds=int(query["X-Amz-Expires"])):
            return _error(403, "AccessDenied", "Request has expired")
        if key.ends_at is not None and self.now > key.ends_at:
            return _error(400, "ExpiredToken", "The provided token has expired.")
        if not key.may_read or request.groups["bucket"] != self.bucket:
            return _error(403, "AccessDenied", "Access Denied")
        return None


def _signature(request: Request, secret: str, scope: str) -> str:
    pairs = sorted(
        (urllib.parse.quote(name, safe="~"), urllib.parse.quote(value, safe="~"))
        for name, value in request.query.items()
        if name != "X-Amz-Signature"
    )
    canonical = "\n".join(
        (
            request.method,
            request.path,
            "&".join("=".join(pair) for pair in pairs),
            f"host:{request.headers['host']}\n",
            "host",
            "UNSIGNED-PAYLOAD",
        )
    )
    text = "\n".join((_ALGORITHM, request.query["X-Amz-Date"], scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), hashlib.sha256)
    return hmac.digest(key, text.encode(), hashlib.sha256).hex()


def _error(status: int, code: str, message: str) -> Answer:
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{escape(message)}</Message>'
        "<RequestId>4442587FB7D0A2F9</RequestId><HostId>fake</HostId></Error>"
    )
    return Answer(status=status, body=body.encode(), headers={"Content-Type": "application/xml"})


@contextmanager
def s3_store(bucket: str = "bucket", region: str = "eu-north-1") -> Iterator[S3Store]:
    """Run the store of an empty bucket."""
    store = S3Store(bucket, region)
    with store.server.serving():
        yield store
