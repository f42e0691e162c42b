"""Base classes and helpers for providers."""

from __future__ import annotations

from cloud_tasks.plugin.boot_script import boot_script
from cloud_tasks.plugin.kit.price_cache import (
    PriceCache,
    PriceFiles,
    Timestamped,
    money_from_text,
    money_to_text,
    prices_from_json,
    prices_to_json,
)

__all__ = [
    "PriceCache",
    "PriceFiles",
    "Timestamped",
    "boot_script",
    "money_from_text",
    "money_to_text",
    "prices_from_json",
    "prices_to_json",
]
