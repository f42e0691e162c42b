"""Chromium as packaged by the system."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["browser", "missing"]

_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def _program() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def missing() -> str:
    """Return the missing requirement and how to install it, or an empty text."""
    if importlib.util.find_spec("playwright") is None:
        return "needs Playwright: pip install playwright"
    if _program() is None:
        return "needs Chromium: apt-get install -y --no-install-recommends chromium"
    return ""


def required() -> bool:
    """Return whether a missing browser fails the tests (in CI) instead of skipping them."""
    return os.environ.get("CI", "") not in ("", "0", "false")


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Yield a headless browser with an empty profile."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=_program(), args=list(_ARGUMENTS))
        try:
            yield chromium
        finally:
            chromium.close()
