"""Building blocks for providers, part of the plugin API: cached prices, and startup scripts that end their instance.

Imported inside ``open`` by the controller's side of a backend, never by a worker.
"""

from __future__ import annotations

from cloud_tasks.plugin.boot_script import boot_script, insert_lines
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
    "insert_lines",
    "money_from_text",
    "money_to_text",
    "prices_from_json",
    "prices_to_json",
]
