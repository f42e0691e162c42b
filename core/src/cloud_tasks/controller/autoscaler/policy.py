"""Policy of a configuration."""

from __future__ import annotations

from datetime import timedelta

from cloud_tasks.config import JobConfig
from cloud_tasks.controller.autoscaler.state import Policy
from cloud_tasks.controller.launch.launch_request import provider_chooses, seconds_of
from cloud_tasks.selection import COMMITMENT

__all__ = ["own_end_of", "policy_of"]

_OWN_END = timedelta(minutes=5)
"""Time within which an instance ends itself after its deadline, which counts from its request."""


def own_end_of(config: JobConfig) -> timedelta | None:
    """Return the time after its deadline by which an instance has ended itself, also if it took long to boot.

    None for a provider that does not enforce lifetimes.
    """
    if not config.registry.compute(config.compute).traits.enforces_max_lifetime:
        return None
    run = config.run
    boot = seconds_of(run.keepalive_startup_timeout) or COMMITMENT
    return boot + _OWN_END + seconds_of(run.shutdown_grace_period)


def policy_of(config: JobConfig) -> Policy:
    """Return the settings that `decide` follows, the provider's traits included."""
    run = config.run

    def span(seconds: float | None) -> timedelta | None:
        return timedelta(seconds=seconds) if seconds else None

    traits = config.registry.compute(config.compute).traits
    return Policy(
        limits=config.limits(),
        startup_timeout=span(run.keepalive_startup_timeout),
        keepalive_timeout=span(run.keepalive_timeout) if run.keepalive_interval else None,
        termination_delay=timedelta(seconds=run.instance_termination_delay),
        listing_lag=traits.listing_lag,
        max_lifetime=config.max_lifetime,
        max_runtime=seconds_of(run.max_runtime),
        max_runtime_is_given="run.max_runtime" in config.origins,
        deadline_grace=seconds_of(run.shutdown_grace_period)
        + (_OWN_END if traits.enforces_max_lifetime else timedelta(0)),
        max_pending=traits.max_pending,
        give_up_after=span(run.give_up_after),
        canary=run.canary,
        provider_chooses=provider_chooses(config),
        spot_fallback=run.spot_fallback,
    )
