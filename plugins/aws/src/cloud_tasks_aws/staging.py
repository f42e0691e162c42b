"""Downloads of instances from S3 by addresses that the controller signs, and the controller's uploads.

Instances need no permission and no software for it. An address is valid for seven days at most, and no longer than the
credentials that signed it ("Download and upload objects with presigned URLs", S3 user guide); it is signed at each
launch. The signer needs `s3:GetObject`, and `kms:Decrypt` for objects encrypted with a key of the user.

Invariants, each with a test:

1. An address names the regional endpoint of the bucket's region, whatever the region of the job.
2. `Download.expires_at` is the end of the signature or of the credentials, whichever is earlier.
3. The bucket that ``setup`` made is used while it belongs to the account of its name.
4. Credentials are read again at least every five minutes: those of a login or a role are replaced within hours.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs

from cloud_tasks.errors import CredentialsError
from cloud_tasks.plugin import Download, DownloadContext, StagingContext
from cloud_tasks_aws.buckets import bucket_client, owner_of
from cloud_tasks_aws.credentials_end import credentials_end
from cloud_tasks_aws.errors import translate_errors
from cloud_tasks_aws.session import client, endpoint_of, region_for, session
from cloud_tasks_aws.settings import AwsSettings
from cloud_tasks_aws.traits import STAGING_SCHEMES

__all__ = ["download", "staging_options"]

_MAX_VALIDITY = timedelta(days=7)
_REUSE = 300.0
"""Seconds for which a client, which takes a second to open, is used again."""


@attrs.frozen
class _Bucket:
    settings: AwsSettings = attrs.field(hash=False)
    region: str
    name: str
    _period: int
    """The current one of the periods for which clients are used."""


def download(settings: AwsSettings, context: DownloadContext) -> Download:
    """Implement `ComputeBackend.download`."""
    bucket, name = context.bucket_and_name(*STAGING_SCHEMES)
    valid_for = max(timedelta(seconds=1), min(context.valid_for, _MAX_VALIDITY))
    with translate_errors(f"signing an address of {bucket}"):
        region = region_for(settings, context.region, context.zone)
        s3 = _client(_Bucket(settings, region, bucket, int(time.monotonic() // _REUSE)))
        now = datetime.now(UTC)
        url = s3.generate_presigned_url(
            "get_object", Params={"Bucket": bucket, "Key": name}, ExpiresIn=math.ceil(valid_for.total_seconds())
        )
        end = _credentials_end(s3, settings)
    return Download(url=url, expires_at=min(now + valid_for, end or datetime.max.replace(tzinfo=UTC)))


def staging_options(settings: AwsSettings, context: StagingContext) -> Mapping[str, Any]:
    """Implement `ComputeBackend.staging_options`: arguments of `s3fs.S3FileSystem`."""
    region = region_for(settings, context.region, context.zone)
    with translate_errors("reading the credentials"):
        found: Any = session(settings, region).get_credentials()
        keys = None if found is None else found.get_frozen_credentials()
    if keys is None:
        raise CredentialsError("no AWS credentials found", hint="run: aws configure, or aws sso login")
    options: dict[str, Any] = {"key": keys.access_key, "secret": keys.secret_key, "token": keys.token}
    endpoint = endpoint_of(settings, "s3")
    if endpoint:
        options["endpoint_url"] = endpoint
    bucket = context.url.partition("://")[2].partition("/")[0]
    return {**options, "client_kwargs": {"region_name": region}, "s3_additional_kwargs": owner_of(bucket)}


@functools.lru_cache(maxsize=4)
def _client(bucket: _Bucket) -> Any:
    def create(region: str | None) -> Any:
        return client(bucket.settings, "s3", region or bucket.region, attempts=3)

    return bucket_client(create, bucket.name)


def _credentials_end(s3: Any, settings: AwsSettings) -> datetime | None:
    """Return when the credentials of a client end: those of a role are renewed, but not in an address."""
    end = getattr(s3._request_signer._credentials, "_expiry_time", None)
    return end if isinstance(end, datetime) else credentials_end(settings)
