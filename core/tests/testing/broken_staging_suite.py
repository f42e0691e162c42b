"""Downloads with one fault each, run against their contract by test_broken_fakes.py."""

from __future__ import annotations

import itertools
import urllib.parse
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from contract_subjects import hold_to
from signed_store import SignedStaging, StoreSettings, staging_subject

from cloud_tasks.errors import ProviderError
from cloud_tasks.plugin import Download, DownloadContext, StagingContext
from cloud_tasks.testing import StagingContract


class DeclaresNoScheme(SignedStaging):
    schemes = ()


class KeepsPlusSigns(SignedStaging):
    """Takes a plus sign for a blank, as in a form."""

    def download(self, settings: StoreSettings, context: DownloadContext) -> Download:
        bucket, name = context.bucket_and_name("memory")
        return self.signed(f"/{bucket}/{urllib.parse.quote(name.replace('+', ' '))}", self.now + context.valid_for)


class SplitsTheUrl(SignedStaging):
    """Takes what follows ``?`` or ``#`` for no part of the name."""

    def download(self, settings: StoreSettings, context: DownloadContext) -> Download:
        parts = urllib.parse.urlsplit(context.url)
        context.bucket_and_name("memory")
        path = f"/{parts.netloc}{urllib.parse.quote(parts.path)}"
        return self.signed(path, self.now + context.valid_for)


class DecodesNames(SignedStaging):
    def download(self, settings: StoreSettings, context: DownloadContext) -> Download:
        bucket, name = context.bucket_and_name("memory")
        path = f"/{bucket}/{urllib.parse.quote(urllib.parse.unquote(name))}"
        return self.signed(path, self.now + context.valid_for)


class AnswersWithAPage(SignedStaging):
    has_pages = True


class AcceptsEveryUrl(SignedStaging):
    def download(self, settings: StoreSettings, context: DownloadContext) -> Download:
        _, _, place = context.url.partition("://")
        return self.signed(f"/{urllib.parse.quote(place)}", self.now + context.valid_for)


class IsPublic(SignedStaging):
    is_public = True


class SendsItsKey(SignedStaging):
    def signed(self, path: str, end: datetime, **fields: Any) -> Download:
        return super().signed(path, end, headers={"x-depot-key": "k3y"})


class SendsAnAuthorization(SignedStaging):
    def signed(self, path: str, end: datetime, **fields: Any) -> Download:
        return super().signed(path, end, headers={"Authorization": "Basic dXNlcg=="})


class SignsForAYear(SignedStaging):
    def signed(self, path: str, end: datetime, **fields: Any) -> Download:
        return super().signed(path, end + timedelta(days=365))


class NamesNoEnd(SignedStaging):
    def signed(self, path: str, end: datetime, **fields: Any) -> Download:
        return super().signed(path, end, expires_at=None)


class EndsTooEarly(SignedStaging):
    """Says that an address is valid for longer than it is."""

    def signed(self, path: str, end: datetime, **fields: Any) -> Download:
        return super().signed(path, end - timedelta(minutes=8), expires_at=end)


class NeverEnds(SignedStaging):
    def advance(self, duration: timedelta) -> None:
        """Keeps the time, and so every address."""


class MovesTheFile(SignedStaging):
    numbers = itertools.count()

    def signed(self, path: str, end: datetime, **fields: Any) -> Download:
        return super().signed(f"{path}-{next(self.numbers)}", end)


class HasNoWayToUpload(SignedStaging):
    def options(self, settings: StoreSettings, context: StagingContext) -> Mapping[str, Any]:
        raise ProviderError("no credentials")


hold_to(globals(), StagingContract, staging_subject, SignedStaging.__subclasses__())
