"""An image that has what the instances of a job would install, made from one instance.

Invariants, each with a test:

1. The instance is terminated whatever happens; without this process, it ends itself after an hour. One that is stopped
   for its image at that time stays so, and ``cleanup`` deletes it.
2. The name of an image is made from its content: what exists is not made again.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from datetime import timedelta

import attrs

from cloud_tasks.config import JobConfig
from cloud_tasks.controller.launch.console import start_failure, telling_line
from cloud_tasks.controller.launch.launch_request import LaunchRequestBuilder, seconds_of
from cloud_tasks.controller.launch.shipped_program import ShippedProgram
from cloud_tasks.controller.launch.terminate import remaining_instances, terminate_instances
from cloud_tasks.controller.setup.offers import rank_offers, require_offer
from cloud_tasks.controller.setup.open_backends import open_compute
from cloud_tasks.controller.setup.shipping import prepare_environment
from cloud_tasks.errors import CloudTasksError, InputError, LaunchRefusedError, ProviderError
from cloud_tasks.model import Instance, LaunchRequest
from cloud_tasks.plugin import Compute, ImageMaker
from cloud_tasks.quantities import format_span
from cloud_tasks.selection import RankedOffer, Ranking
from cloud_tasks.shipping import PREPARED

__all__ = ["build_image"]

_LIFETIME = timedelta(hours=1)
_DEFAULT_LIMIT = timedelta(minutes=10)
_END_TIMEOUT = timedelta(minutes=10)
_PAUSE = 5.0
_PAUSE_OF_LISTINGS = timedelta(seconds=15)
"""Time after which a listing shows a new instance, at least."""
_OFFERS = 5
"""Number of offers, from the best, of which one must be available."""


def build_image(
    config: JobConfig,
    *,
    note: Callable[[str], None] = lambda text: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Make an image with the requirements of a job, unless it exists; return its name, the value of ``run.image``.

    Args:
        note: Receives the progress in lines.

    Raises:
        InputError: The provider has no such images, or the configuration does not allow it.
        CloudTasksError: The requirements cannot be installed, or a call of the provider failed.
    """
    backend = config.registry.compute(config.compute)
    job_id = f"image-{secrets.token_hex(4)}"
    if backend.download is None:
        raise InputError(f'instances of "{config.compute}" install nothing', hint="run the job without an image")
    config = attrs.evolve(config, run=attrs.evolve(config.run, use_spot=False, job_id=job_id))
    with open_compute(config, job_id) as compute:
        if not isinstance(compute, ImageMaker):
            raise InputError(f'images of instances of "{config.compute}" cannot be made', hint="omit this step")
        ranking = rank_offers(config, job_id)
        require_offer(ranking, config)
        program = prepare_environment(config, ranking.offers[:1])
        name = _name(program, config.run.image)
        if (found := compute.find_own_image(name)) is not None:
            note(f"{name} exists")
            return found
        program.upload()
        launched: list[str] = []
        lag = max(backend.traits.listing_lag, _PAUSE_OF_LISTINGS)
        try:
            instance = _launch(config, compute, program, ranking, job_id)
            launched.append(instance.instance_id)
            note(f"Started {instance.instance_id} ({instance.instance_type}, {instance.zone})")
            limit = seconds_of(config.run.keepalive_startup_timeout) or _DEFAULT_LIMIT
            _wait(compute, instance, limit, lag, clock, sleep)
            note("The requirements are installed; making the image")
            return compute.make_image(instance.instance_id, name)
        finally:
            if not launched:
                # The listing may not show yet what a call without an answer has launched.
                sleep(lag.total_seconds())
            terminate_instances(
                compute,
                lambda: remaining_instances(compute, job_id),
                timeout=_END_TIMEOUT,
                recorded=launched,
                on_wait=note,
                sleep=sleep,
            )


def _name(program: ShippedProgram, image: str | None) -> str:
    pieces = sorted(piece.sha256 for piece in program.bundle.pieces)
    return f"cloud-tasks-{hashlib.sha256(' '.join([*pieces, image or '']).encode()).hexdigest()[:16]}"


def _launch(config: JobConfig, compute: Compute, program: ShippedProgram, ranking: Ranking, job_id: str) -> Instance:
    """Launch one instance, of the best offer that is available."""
    builder = LaunchRequestBuilder(
        config, program, job_id=job_id, queue_name=job_id, run_id=secrets.token_hex(8), earlier_attempts=0
    )
    architecture = ranking.offers[0].offer.instance_type.architecture
    offers = [each for each in ranking.offers if each.offer.instance_type.architecture is architecture][:_OFFERS]
    for ranked in offers:
        try:
            return compute.launch(_request(builder, ranked))
        except LaunchRefusedError as error:
            if ranked is offers[-1]:
                raise CloudTasksError(f"no instance: {error.message}", hint=error.hint) from error
    raise AssertionError("there are offers")


def _request(builder: LaunchRequestBuilder, ranked: RankedOffer) -> LaunchRequest:
    request = builder.finish(builder.compose(ranked, (), secrets.token_hex(12), _LIFETIME))
    # No worker starts.
    return attrs.evolve(request, startup_timeout=None)


def _wait(
    compute: Compute,
    instance: Instance,
    limit: timedelta,
    lag: timedelta,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> None:
    """Wait until the console says that everything is installed."""
    began, limit_seconds = clock(), limit.total_seconds()
    console = ""
    while True:
        age = clock() - began
        try:
            console = compute.console_log(instance.instance_id)
            listed = remaining_instances(compute, instance.job_id)
            is_there = any(each.instance_id == instance.instance_id for each in listed)
        except ProviderError as error:
            if not error.transient or age >= limit_seconds:
                raise
            is_there = True
        if reason := start_failure(console):
            raise CloudTasksError(f"the requirements cannot be installed: {reason}")
        if f"{PREPARED}{instance.job_id}" in console:
            return
        # A listing may not show it yet.
        if age >= limit_seconds or (age >= lag.total_seconds() and not is_there):
            what = f"not ready within {format_span(limit)}" if is_there else "it ended"
            last = telling_line(console)
            raise CloudTasksError(f"{instance.instance_id}: {what}" + (f": {last}" if last else ""))
        sleep(_PAUSE)
