"""Policy of a configuration."""

from __future__ import annotations

from datetime import timedelta

from cloud_tasks.config import JobConfig, RunSettings
from cloud_tasks.controller.autoscaler.state import Policy
from cloud_tasks.controller.launch.launch_request import provider_chooses

__all__ = ["policy_of"]


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
        max_lifetime=None if traits.enforces_max_lifetime else _lifetime(run),
        give_up_after=span(run.give_up_after),
        canary=run.canary,
        provider_chooses=provider_chooses(config),
        spot_fallback=run.spot_fallback,
    )


def _lifetime(run: RunSettings) -> timedelta | None:
    """Return the maximum lifetime plus the grace period for running tasks; None: no limit."""
    return timedelta(seconds=run.max_lifetime + run.shutdown_grace_period) if run.max_lifetime else None
