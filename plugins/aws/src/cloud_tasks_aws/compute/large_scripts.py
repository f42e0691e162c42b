"""Startup scripts that exceed the limit of user data: stored in S3 by the controller, downloaded by the instance.

The instance gets a presigned URL (at most 7 days valid, and no longer than the credentials that signed it: "Sharing
objects with presigned URLs", S3 user guide), so it needs no S3 permission.

Invariants, each with a test:

1. One S3 object per script, however many instances run it; deleted when the controller closes.
2. An instance that cannot download its script powers itself off.
3. URLs are signed for the region of the bucket, and shortly before they are used: the credentials of a role or a login
   expire within hours.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from cloud_tasks.plugin import Download
from cloud_tasks.plugin.kit import DOWNLOAD_FUNCTION, download_command
from cloud_tasks_aws.buckets import bucket_client
from cloud_tasks_aws.errors import translate_errors

__all__ = ["LargeScripts"]

_URL_LIFETIME = 7 * 24 * 3600
_URL_REUSE = 300.0
"""Seconds for which the user data of a script stays the same, so that a repeated launch has equal arguments."""


class LargeScripts:
    """The scripts stored in one bucket. Thread-safe.

    Args:
        s3: Creates a client in a region; None for that of the instances.
        location: ``s3://bucket/prefix``.
        clock: Monotonic time in seconds.
    """

    def __init__(
        self, s3: Callable[[str | None], Any], location: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._create_client = s3
        self._client: Any = None
        bucket, _, prefix = location.removeprefix("s3://").partition("/")
        self._bucket = bucket
        self._prefix = prefix.strip("/")
        self._lock = threading.Lock()
        self._clock = clock
        self._keys: dict[str, str] = {}
        self._loaders: dict[str, tuple[float, bytes]] = {}

    def loader(self, script: str) -> bytes:
        """Return user data that downloads and executes the script; the same for five minutes."""
        with self._lock:
            if script not in self._keys:
                self._keys[script] = self._put(script)
            created_at, loader = self._loaders.get(script, (-math.inf, b""))
            now = self._clock()
            if now - created_at > _URL_REUSE:
                loader = self._new_loader(self._keys[script])
                self._loaders[script] = (now, loader)
            return loader

    def _s3(self) -> Any:
        if self._client is None:
            self._client = bucket_client(self._create_client, self._bucket)
        return self._client

    def close(self) -> None:
        """Delete the stored scripts."""
        if self._client is None:
            return
        for key in self._keys.values():
            with suppress(ClientError, BotoCoreError):
                self._client.delete_object(Bucket=self._bucket, Key=key)
        self._client.close()

    def _put(self, script: str) -> str:
        content = gzip.compress(script.encode(), 9, mtime=0)
        name = f"startup-script-{hashlib.sha256(content).hexdigest()[:32]}"
        key = f"{self._prefix}/{name}" if self._prefix else name
        with translate_errors(f"storing the startup script in {self._bucket}"):
            _ = self._s3().put_object(Bucket=self._bucket, Key=key, Body=content)["ETag"]
        return key

    def _new_loader(self, key: str) -> bytes:
        params = {"Bucket": self._bucket, "Key": key}
        with translate_errors("signing the URL of the startup script"):
            url = self._s3().generate_presigned_url("get_object", Params=params, ExpiresIn=_URL_LIFETIME)
        lines = (
            "#!/bin/bash",
            DOWNLOAD_FUNCTION,
            'script=$(mktemp -p "${HOME:-/root}")',
            download_command(Download(url=url), to='"$script.gz"') + " &&",
            '  gunzip "$script.gz" -c >"$script" && rm "$script.gz" && chmod 700 "$script" && exec "$script"',
            "shutdown -h now",
        )
        return ("\n".join(lines) + "\n").encode()
