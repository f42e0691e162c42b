"""A real browser, as the system packages it."""

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
    """What is not there and how to get it; empty where all is."""
    if importlib.util.find_spec("playwright") is None:
        return "needs Playwright: pip install playwright"
    if _program() is None:
        return "needs Chromium: apt-get install -y --no-install-recommends chromium"
    return ""


def required() -> bool:
    """Whether a missing browser is a failure: where nobody would read that a test was skipped."""
    return os.environ.get("CI", "") not in ("", "0", "false")


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A browser without a window, and without anything of the user's."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=_program(), args=list(_ARGUMENTS))
        try:
            yield chromium
        finally:
            chromium.close()
