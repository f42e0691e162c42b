"""How an instance downloads a file of the staging: what a provider says about it, as data.

Invariants, each with a test:

1. A download is only printable ASCII, so no header and no line of a shell program can be inserted into it.
2. ``repr`` shows neither the signature of a URL nor the value of a header.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import attrs

from cloud_tasks.errors import InputError
from cloud_tasks.escape import without_credentials

__all__ = ["Download", "DownloadContext", "StagingContext"]

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""A token of RFC 9110, section 5.6.2."""
_HEADER_VALUE = re.compile(r"[!-~]([ -~]*[!-~])?")


@attrs.frozen(kw_only=True)
class StagingContext:
    """Parameters of `ComputeBackend.staging_options`."""

    url: str
    """URL of the staging, or of a file below it: ``s3://bucket/staging/code-1f….tar.gz``. Its text after the bucket is
    the name of the object, character by character: ``%``, ``#``, ``?`` and ``+`` have no other meaning."""
    region: str | None = None
    """The region of the job or of the instance, if known."""
    zone: str | None = None
    """The zone, if configured."""

    def bucket_and_name(self, *schemes: str) -> tuple[str, str]:
        """Return the part between the scheme and the first ``/``, and the name of the object.

        Raises:
            InputError: The URL has none of these schemes, no bucket or no name.
        """
        scheme, _, place = self.url.partition("://")
        bucket, _, name = place.partition("/")
        if scheme not in schemes or not bucket or not name:
            forms = " or ".join(f"{each}://bucket/prefix" for each in schemes)
            raise InputError(
                f'"{without_credentials(self.url)}" is not a file that instances can download',
                where="run.staging",
                hint=f"set run.staging to {forms}",
            )
        return bucket, name


@attrs.frozen(kw_only=True)
class DownloadContext(StagingContext):
    """Parameters of `ComputeBackend.download`."""

    valid_for: timedelta
    """Time for which the download must work, as far as the provider allows it."""


def _check_url(_: object, attribute: attrs.Attribute[str], value: str) -> None:
    if not re.fullmatch("https?://[!-~]+", value) or not urlsplit(value).hostname:
        raise ValueError(f"{attribute.name} is no HTTP address in ASCII: encode other characters with %")


def _check_token_url(instance: object, attribute: attrs.Attribute[str], value: str) -> None:
    if value:
        _check_url(instance, attribute, value)


def _check_headers(_: object, attribute: attrs.Attribute[Mapping[str, str]], value: Mapping[str, str]) -> None:
    for name, text in value.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(text):
            raise ValueError(f"{attribute.name}: the header {name!r} is not printable ASCII")


def _shown_url(url: str) -> str:
    return repr(without_credentials(url))


def _shown_headers(headers: Mapping[str, str]) -> str:
    return repr(sorted(headers))


@attrs.frozen(kw_only=True)
class Download:
    """How an instance downloads one file with nothing but curl: an address, headers, and a token of its own identity.

    The instance makes a GET request, and takes no redirection. It repeats a request that failed for a passing reason.
    """

    url: str = attrs.field(validator=_check_url, repr=_shown_url)
    """HTTP address of the file, percent-encoded; a signed one is a secret until it expires."""
    headers: Mapping[str, str] = attrs.field(factory=dict, validator=_check_headers, repr=_shown_headers)
    """Headers of the request. Users who can read the startup script of the instance see them: no secrets."""
    token_url: str = attrs.field(default="", validator=_check_token_url)
    """Address of the metadata service whose JSON answer has ``access_token``, which is sent as ``Authorization:
    Bearer``; empty: none. It is requested on the instance, without a proxy."""
    token_headers: Mapping[str, str] = attrs.field(factory=dict, validator=_check_headers, repr=_shown_headers)
    """Headers of the request for the token: ``Metadata-Flavor: Google``."""
    expires_at: datetime | None = None
    """When the address is no longer valid, such as a signed one; None: never."""
