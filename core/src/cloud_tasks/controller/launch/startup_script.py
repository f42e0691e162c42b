"""Startup script of an instance: exports of the worker's settings, then the user's own script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cloud_tasks.escape import shell_word
from cloud_tasks.model import Offer, ProvisioningModel
from cloud_tasks.plugin.kit import insert_lines
from cloud_tasks.selection import RankedOffer

__all__ = ["compose_startup_script", "offer_environment"]

_PREFIXES = ("CLOUD_TASKS_", "RMS_CLOUD_TASKS_")


def offer_environment(ranked: RankedOffer) -> dict[str, str]:
    """Return the variables that describe the instance to its worker, by name without prefix."""
    offer: Offer = ranked.offer
    return {
        "INSTANCE_TYPE": offer.instance_type.name,
        "INSTANCE_NUM_VCPUS": str(offer.instance_type.vcpus),
        "INSTANCE_MEM_GB": f"{offer.instance_type.memory_gb:g}",
        "INSTANCE_SSD_GB": f"{offer.instance_type.local_ssd_gb:g}",
        "INSTANCE_BOOT_DISK_GB": f"{offer.boot_disk.size_gb:g}",
        "INSTANCE_IS_SPOT": "1" if offer.provisioning_model is ProvisioningModel.SPOT else "0",
        "INSTANCE_PRICE": f"{offer.price_per_hour.usd:f}",
        "NUM_TASKS_PER_INSTANCE": str(ranked.slots),
    }


def compose_startup_script(
    script: str, job: Mapping[str, str], offers: Sequence[RankedOffer], plugin: Mapping[str, str]
) -> str:
    """Return the script with the exports after its ``#!`` line; ``#!/bin/bash`` is added if it has none.

    Args:
        script: The user's startup script.
        job: Variables without prefix; each is exported with ``CLOUD_TASKS_`` and with ``RMS_CLOUD_TASKS_``.
        offers: Offers that the instance may be of. The first is assumed unless the backend reports another
            (`ComputeTraits.provider_selects_offer`); they are exported with the same prefixes as ``job``.
        plugin: Variables by full name.
    """
    lines = _exports({**job, **(offer_environment(offers[0]) if offers else {})}, _PREFIXES)
    if len(offers) > 1:
        lines += _by_offer(offers)
    return insert_lines(script, [*lines, *_exports(plugin, ("",))])


def _exports(values: Mapping[str, str], prefixes: Sequence[str]) -> list[str]:
    return [f"export {prefix}{name}={shell_word(value)}" for name, value in values.items() for prefix in prefixes]


def _by_offer(offers: Sequence[RankedOffer]) -> list[str]:
    """Return the lines that export what differs from the first offer, depending on the selected one."""
    default = offer_environment(offers[0])
    cases = []
    for ranked in offers[1:]:
        facts = {name: value for name, value in offer_environment(ranked).items() if default[name] != value}
        pattern = shell_word(f"{ranked.offer.instance_type.name} {ranked.offer.zone}")
        if facts:
            cases += [f"{pattern})", *_exports(facts, _PREFIXES), ";;"]
    return ['case "${CLOUD_TASKS_STARTED:-}" in', *cases, "esac"] if cases else []
