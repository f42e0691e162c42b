"""Plugins in memory for tests of the configuration: a cloud with two settings classes, and one with a single class."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs

import cloud_tasks.builtin
from cloud_tasks.config import JobConfig, load_config
from cloud_tasks.model import Money
from cloud_tasks.plugin import (
    ComputeBackend,
    ComputeTraits,
    PricingBackend,
    QueueBackend,
    QueueTraits,
    hookimpl,
    setting,
)
from cloud_tasks.registry import Registry

SECRET = "hunter2-do-not-show"


def _not_negative(instance: object, attribute: object, value: float) -> None:
    if value < 0:
        raise ValueError(f"{value:g} is below 0")


def _refuse_short(instance: object, attribute: object, value: str | None) -> None:
    if value is not None and len(value) < 8:
        raise ValueError(f'"{value}" is too short')


@attrs.frozen(kw_only=True)
class GcpComputeSettings:
    project_id: str = setting(help="Billed project", env="FAKE_CLOUD_PROJECT", flag="--project-id", worker=True)
    service_account: str | None = setting(help="Account of the instances", default=None, flag="--service-account")
    secret_key: str | None = setting(
        help="A secret", default=None, secret=True, flag="--secret-key", validator=_refuse_short
    )
    launch_timeout: timedelta = setting(help="Time limit for a launch", default=timedelta(seconds=30), worker=True)
    folder: Path = setting(help="A folder", default=Path("there"), worker=True)
    networks: tuple[str, ...] = setting(help="Networks", default=(), worker=True)
    public: bool = setting(help="Give instances a public address", default=False, worker=True)


@attrs.frozen(kw_only=True)
class GcpQueueSettings:
    project_id: str = setting(help="Billed project", env="FAKE_CLOUD_PROJECT", flag="--project-id")
    retention_days: float = setting(help="Days for which messages are kept", default=7.0, validator=_not_negative)
    surcharge: Money = setting(help="US dollars per hour", default=Money(0))


@attrs.frozen(kw_only=True)
class AwsSettings:
    access_key: str | None = setting(help="Key", default=None, flag="--access-key", secret=True)
    project_id: str | None = setting(help="Also a project", default=None, flag="--project-id")
    profile: str | None = setting(help="Profile", default=None, flag="--profile")


def _never(settings: Any, context: Any) -> AbstractContextManager[Any]:
    raise AssertionError("loading a configuration opened a backend")


def _plugin(name: str, compute_settings: type[Any], queue_settings: type[Any], *, is_able: bool) -> object:
    traits = QueueTraits(
        max_lease=timedelta(minutes=10),
        max_message_bytes=1000,
        receive_batch=10,
        send_batch=10,
        exactly_once=is_able,
    )

    @hookimpl
    def cloud_tasks_register_queue() -> Sequence[QueueBackend]:
        return [QueueBackend(name=name, summary="messages", settings=queue_settings, traits=traits, open=_never)]

    @hookimpl
    def cloud_tasks_register_compute() -> Sequence[ComputeBackend]:
        compute = ComputeBackend(
            name=name,
            summary="instances",
            settings=compute_settings,
            traits=ComputeTraits(spot=is_able),
            open=_never,
            open_instance=_never,
        )
        return [compute]

    @hookimpl
    def cloud_tasks_register_pricing() -> Sequence[PricingBackend]:
        return [PricingBackend(name=name, summary="prices", settings=compute_settings, open=_never)]

    return SimpleNamespace(
        cloud_tasks_register_queue=cloud_tasks_register_queue,
        cloud_tasks_register_compute=cloud_tasks_register_compute,
        cloud_tasks_register_pricing=cloud_tasks_register_pricing,
    )


@functools.cache
def make_registry() -> Registry:
    """Return a registry of the built-in plugins and the fake clouds ``gcp`` and ``aws`` (no spot, no exactly-once)."""
    return _clouds()


def _clouds() -> Registry:
    registry = Registry(builtins=[("builtin", cloud_tasks.builtin)], only=())
    registry.register("gcp", _plugin("gcp", GcpComputeSettings, GcpQueueSettings, is_able=True))
    registry.register("aws", _plugin("aws", AwsSettings, AwsSettings, is_able=False))
    return registry


def make_registry_with_cluster() -> Registry:
    """Return the registry of `make_registry` with a plugin ``cluster``, which has compute and pricing only."""
    registry = _clouds()
    cluster = vars(_plugin("cluster", AwsSettings, AwsSettings, is_able=True))
    del cluster["cloud_tasks_register_queue"]
    registry.register("cluster", SimpleNamespace(**cluster))
    return registry


def load(
    text: str | None = None,
    *,
    folder: Path | None = None,
    options: Mapping[str, Any] | None = None,
    sets: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> JobConfig:
    """Return the configuration of a file ``config.yml`` with this text, and of the other layers."""
    file = None
    if text is not None:
        assert folder is not None
        file = folder / "config.yml"
        file.write_text(text)
        # The file may hold secrets.
        file.chmod(0o600)
    return load_config(make_registry(), file=file, options=options or {}, sets=sets, environ=environ or {})
