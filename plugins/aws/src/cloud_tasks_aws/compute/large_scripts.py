"""Startup scripts that are too long for user data: kept in S3 while a controller needs them, fetched by the instance.

The instance is given an address with a signature of its own (a presigned URL, at most 7 days valid, and no longer than
the credentials that signed it: "Sharing objects with presigned URLs", S3 user guide), so it needs no permission, and
Python, which cloud-init itself needs.

Invariants, each with a test:

1. One object per script, however many instances run it; removed when the controller closes.
2. An instance that cannot fetch its script switches itself off.
3. No instance is given an address that was signed long ago: keys of a role or of a login last for hours only.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import shlex
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from cloud_tasks_aws.failures import calling

__all__ = ["LargeScripts"]

_VALID_SECONDS = 7 * 24 * 3600
_FRESH_SECONDS = 300.0
"""For so long the user data stays the same, so that a launch that is repeated asks for the same thing."""
_FETCH = """
import gzip, sys, time, urllib.request
for attempt in range(10):
    try:
        with urllib.request.urlopen(sys.argv[1], timeout=30) as answer:
            content = gzip.decompress(answer.read())
        break
    except OSError as error:
        print("the startup script cannot be fetched:", error, flush=True)
        time.sleep(min(2**attempt, 30))
else:
    sys.exit(1)
with open(sys.argv[2], "wb") as file:
    file.write(content)
"""


class LargeScripts:
    """The scripts that were put into a bucket. Thread-safe.

    Args:
        s3: Makes the client, when the first script is put.
        location: ``s3://bucket/prefix``.
        clock: Seconds that never go back.
    """

    def __init__(self, s3: Callable[[], Any], location: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._s3 = s3
        bucket, _, prefix = location.removeprefix("s3://").partition("/")
        self._bucket = bucket
        self._prefix = prefix.strip("/")
        self._lock = threading.Lock()
        self._clock = clock
        self._keys: dict[str, str] = {}
        self._starters: dict[str, tuple[float, bytes]] = {}

    def starter(self, script: str) -> bytes:
        """User data that fetches this script and becomes it; for some minutes the same for the same script."""
        with self._lock:
            if script not in self._keys:
                self._keys[script] = self._put(script)
            made_at, starter = self._starters.get(script, (-math.inf, b""))
            now = self._clock()
            if now - made_at > _FRESH_SECONDS:
                starter = self._starting(self._keys[script])
                self._starters[script] = (now, starter)
            return starter

    def close(self) -> None:
        """Remove what was put."""
        for key in self._keys.values():
            with suppress(ClientError, BotoCoreError):
                self._s3().delete_object(Bucket=self._bucket, Key=key)

    def _put(self, script: str) -> str:
        content = gzip.compress(script.encode(), 9, mtime=0)
        name = f"startup-script-{hashlib.sha256(content).hexdigest()[:32]}"
        key = f"{self._prefix}/{name}" if self._prefix else name
        with calling(f"putting the startup script into {self._bucket}"):
            self._s3().put_object(Bucket=self._bucket, Key=key, Body=content, ServerSideEncryption="AES256")
        return key

    def _starting(self, key: str) -> bytes:
        where = {"Bucket": self._bucket, "Key": key}
        with calling("signing the address of the startup script"):
            address = self._s3().generate_presigned_url("get_object", Params=where, ExpiresIn=_VALID_SECONDS)
        lines = (
            "#!/bin/bash",
            'script=$(mktemp -p "${HOME:-/root}")',
            f'python3 -c {shlex.quote(_FETCH)} {shlex.quote(address)} "$script" &&',
            '  chmod 700 "$script" && exec "$script"',
            "shutdown -h now",
        )
        return ("\n".join(lines) + "\n").encode()
