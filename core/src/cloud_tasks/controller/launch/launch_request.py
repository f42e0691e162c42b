"""Launch requests of a run: startup script, worker settings, labels and image of each instance."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import attrs

from cloud_tasks.config import JobConfig, delivered_secrets
from cloud_tasks.controller.launch.job_secrets import secrets_variables
from cloud_tasks.controller.launch.labels import ownership_labels
from cloud_tasks.controller.launch.shipped_program import ShippedProgram
from cloud_tasks.controller.launch.startup_script import compose_startup_script
from cloud_tasks.model import LaunchRequest, Money, ProvisioningModel
from cloud_tasks.retry_rule import RetryRule, format_rules
from cloud_tasks.selection import Prefer, RankedOffer, alternatives, drain_after

__all__ = ["LaunchRequestBuilder", "check_launch", "provider_chooses", "seconds_of"]

_LONGEST = 3e9
"""Seconds, about a century."""
_FALLBACK_LIFETIME = timedelta(days=7)
_TOKEN_LENGTH = 25
_SPOT_MARGIN = Decimal("1.2")
"""Rise of a spot price that is paid: the books follow at the next request for prices. Above it, the provider reclaims
the instance, so that no unnoticed rise exceeds the limits by more, even without a controller."""
_LAST_REPORTS = timedelta(seconds=10)
"""Time between the end of a worker's grace period and that of its instance, for its last events."""


class LaunchRequestBuilder:
    """Builds the launch requests of one run.

    Args:
        script: The user's startup script, or the program that the instances download.
        event_queue_name: None for the name of the task queue with ``-events``.
        earlier_attempts: Attempt numbers used by earlier passes, which do not count against the limit.
    """

    def __init__(
        self,
        config: JobConfig,
        script: str | ShippedProgram,
        *,
        job_id: str,
        queue_name: str,
        event_queue_name: str | None = None,
        run_id: str,
        earlier_attempts: int,
    ) -> None:
        self._config = config
        self._program = None if isinstance(script, str) else script
        self._script = script if isinstance(script, str) else script.script
        self._job_id = job_id
        self._queue_name = queue_name
        # Workers derive the name unless it differs.
        self._event_queue_name = None if event_queue_name == f"{queue_name}-events" else event_queue_name
        self._run_id = run_id
        self._earlier_attempts = earlier_attempts
        self._secrets = delivered_secrets(config)

    def compose(
        self, ranked: RankedOffer, others: Sequence[RankedOffer], token: str, lifetime: timedelta | None
    ) -> LaunchRequest:
        """Return the request for one instance.

        Args:
            others: Offers of which the provider may select one instead.
            token: Client token; a repeated request with the same token launches nothing new.
            lifetime: Time after which the instance ends itself; None: never.
        """
        run = self._config.run
        expires = datetime.now(UTC) + (lifetime or _FALLBACK_LIFETIME)
        return LaunchRequest(
            client_token=token,
            job_id=self._job_id,
            offer=ranked.offer,
            alternatives=tuple(other.offer for other in others),
            startup_script=compose_startup_script(
                self._script,
                self._job_environment() | self._lifetimes(lifetime),
                (ranked, *others),
                {
                    **self._config.worker_environment(),
                    **run.environment,
                    **secrets_variables(self._config, self._job_id),
                },
            ),
            labels=ownership_labels(run_id=self._run_id, expires=expires),
            image=run.image,
            max_lifetime=lifetime,
            max_price_per_hour=_max_spot_price((ranked, *others)),
            startup_timeout=seconds_of(run.keepalive_startup_timeout) or None,
            secrets=self._secrets,
        )

    def finish(self, request: LaunchRequest) -> LaunchRequest:
        """Return a request as it is sent: with the addresses of the downloads. Thread-safe.

        Raises:
            CloudTasksError: The provider does not say how to download them.
        """
        if self._program is None:
            return request
        return attrs.evolve(request, startup_script=self._program.with_downloads(request.startup_script))

    def _lifetimes(self, lifetime: timedelta | None) -> dict[str, str]:
        """Return the variables of the end of a worker: before that of its instance, and early enough for its tasks."""
        if lifetime is None:
            return {}
        run = self._config.run
        age = drain_after(
            lifetime,
            max_runtime=seconds_of(run.max_runtime),
            is_given="run.max_runtime" in self._config.origins,
            startup_timeout=seconds_of(run.keepalive_startup_timeout) or None,
        )
        rest = min(seconds_of(run.shutdown_grace_period) + _LAST_REPORTS, lifetime / 4)
        ends = {"DRAIN_AFTER": age, "MAX_LIFETIME": lifetime - rest}
        return {name: _environment_text(round(span.total_seconds(), 3)) for name, span in ends.items()}

    def _job_environment(self) -> dict[str, str]:
        """Return the variables of every worker of the job, by name without prefix."""
        config, run = self._config, self._config.run
        provider = config.provider or (config.compute if config.compute == config.queue else None)
        values: dict[str, object] = {
            "PROVIDER": provider.upper() if provider else None,
            "PROJECT_ID": getattr(config.settings_for("compute", config.compute), "project_id", None),
            "REGION": run.region,
            "QUEUE": config.queue,
            "COMPUTE": config.compute,
            "JOB_ID": self._job_id,
            "RUN_ID": self._run_id,
            "QUEUE_NAME": self._queue_name,
            "EVENT_LOG_QUEUE_NAME": self._event_queue_name,
            "EXACTLY_ONCE_QUEUE": run.exactly_once_queue,
            "EVENT_LOG_TO_QUEUE": True,
            "EVENT_LOG_TO_FILE": False,
            "MAX_RUNTIME": run.max_runtime,
            "RETRY_ON_EXIT": run.retry_on_exit,
            "RETRY_ON_EXCEPTION": run.retry_on_exception,
            "RETRY_ON_TIMEOUT": run.retry_on_timeout,
            "MAX_ATTEMPTS": run.max_attempts + self._earlier_attempts,
            "EARLIER_ATTEMPTS": self._earlier_attempts or None,
            "MAX_LOSSES": run.max_losses,
            "KEEPALIVE_INTERVAL": run.keepalive_interval,
            "MAX_MEMORY_ALLOWED_PER_TASK": run.max_memory_allowed_per_task,
            "SHUTDOWN_GRACE_PERIOD": run.shutdown_grace_period,
            # 0 means "no limit" in the configuration and "at once" to a worker.
            "IDLE_LIMIT": run.idle_limit or None,
            "RETRY_RULES": _rules(run.retry, self._earlier_attempts),
            "MAX_RESULT_BYTES": run.max_result_bytes,
            "RESULT_STORE": self._config.store_of("result_store"),
            "START_METHOD": run.start_method,
            "REUSE_PROCESSES": run.reuse_processes,
            "LOG_STORE": self._config.store_of("log_store"),
            "EVENT_SPOOL_BYTES": run.event_spool_bytes,
            "COMMAND": run.command,
            # The job decides about failed tasks; to a startup script, their worker has done its work.
            "ACCEPT_FAILURES": "100%",
            "SHELL": run.shell,
        }
        return {name: _environment_text(value) for name, value in values.items() if value is not None}


def _max_spot_price(offers: Sequence[RankedOffer]) -> Money | None:
    """Return the most that a spot instance may cost before the provider reclaims it; None on demand."""
    if offers[0].offer.provisioning_model is not ProvisioningModel.SPOT:
        return None
    return max(ranked.offer.price.machine for ranked in offers) * _SPOT_MARGIN or None


def seconds_of(value: float) -> timedelta:
    """Return a number of seconds, at most about a century, as a duration."""
    return timedelta(seconds=min(value, _LONGEST))


def provider_chooses(config: JobConfig) -> bool:
    """Return whether the provider selects among an offer and its alternatives.

    Never with ``prefer: speed``, where offers are ranked by more than their price.
    """
    traits = config.registry.compute(config.compute).traits
    return traits.provider_selects_offer and Prefer(config.run.prefer) is not Prefer.SPEED


def check_launch(
    config: JobConfig,
    offers: Sequence[RankedOffer],
    *,
    job_id: str,
    queue_name: str,
    program: ShippedProgram | None = None,
) -> LaunchRequest | None:
    """Have the compute backend check script, image and disk of the first launch of a run; return its request.

    Args:
        offers: Ranked, best first.
        program: What the instances download; None if they have it.

    Raises:
        InputError: The backend would reject the launch.
    """
    if not offers:
        return None
    builder = LaunchRequestBuilder(
        config,
        program or (config.require_startup_script() if config.has_startup_script else ""),
        job_id=job_id,
        queue_name=queue_name,
        run_id="0" * 16,
        earlier_attempts=0,
    )
    others = alternatives(offers) if provider_chooses(config) else ()
    request = builder.finish(builder.compose(offers[0], others, "0" * _TOKEN_LENGTH, config.max_lifetime))
    check = config.registry.compute(config.compute).check_launch
    if check is not None:
        check(config.settings_for("compute", config.compute), request)
    return request


def _rules(rules: Sequence[RetryRule], earlier: int) -> str | None:
    """Return the retry rules as a worker option; None if there are none."""
    found = [rule if rule.attempts is None else rule._replace(attempts=rule.attempts + earlier) for rule in rules]
    return format_rules(found) if found else None


def _environment_text(value: object) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
