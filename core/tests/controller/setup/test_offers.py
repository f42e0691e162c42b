"""Ranked offers of a configuration, and current prices of a running job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from memory_commands import MemoryCommands
from structlog.testing import capture_logs

from cloud_tasks.config import JobConfig, load_config
from cloud_tasks.controller.setup.offers import current_prices, price_interval, rank_offers, require_offer
from cloud_tasks.errors import InputError, ProviderError
from cloud_tasks.model import Architecture, Image, Money, Offer, OfferRequest, ProvisioningModel, Unpriced
from cloud_tasks.plugin import ComputeTraits
from cloud_tasks.store import InstanceRecord


class Images:
    """A provider in memory that describes images: a size in GB, None, or an error."""

    def __init__(self, answer: float | Exception | None, **traits: Any) -> None:
        self.answer = answer
        self.asked: list[tuple[str | None, Architecture]] = []
        original = MemoryCommands().provider.compute
        self.commands = MemoryCommands(
            compute={"open": self.open, "traits": ComputeTraits(**traits) if traits else original.traits}
        )

    @contextmanager
    def open(self, settings: object, context: Any) -> Iterator[Any]:
        with self.commands.provider.compute.open(settings, context) as compute:
            setattr(compute, "find_image", self._find_image)  # noqa: B010 - the Protocol has no such method
            yield compute

    def _find_image(self, name: str | None, architecture: Architecture) -> Image | None:
        self.asked.append((name, architecture))
        if isinstance(self.answer, Exception):
            raise self.answer
        return Image(name=name or "default", uri="", architecture=architecture, min_disk_gb=self.answer)

    def config(self, **run: Any) -> JobConfig:
        options = {"provider": "memory", **{f"run.{key}": value for key, value in run.items()}}
        return load_config(self.commands.registry, file=None, options=options, environ={})


def disks(images: Images, **run: Any) -> set[float]:
    return {each.offer.boot_disk.size_gb for each in rank_offers(images.config(**run)).offers}


@pytest.mark.parametrize(
    ("size", "run", "expected"),
    [
        (50.0, {}, 50.0),
        (50.0, {"total_boot_disk_size": 100.0}, 100.0),
        (8.0, {}, 10.0),
        (None, {}, 10.0),
        (50.0, {"boot_disk_base_size": 60.0}, 60.0),
    ],
)
def test_boot_disk_is_the_larger_of_configuration_and_image(
    size: float | None, run: dict[str, Any], expected: float
) -> None:
    images = Images(size)
    assert disks(images, image="big", **run) == {expected}
    assert images.asked == [("big", Architecture.X86_64)]
    note = "Boot disk of 50 GB instead of 10 GB (total_boot_disk_size): image big needs it"
    assert rank_offers(images.config(image="big", **run)).notes == ((note,) if expected == size else ())


def test_unknown_image_is_bad_input() -> None:
    with pytest.raises(InputError, match="not found"):
        rank_offers(Images(InputError('image "x" not found', where="run.image")).config(image="x"))


def test_gpu_needs_an_image_with_a_driver() -> None:
    images = Images(None)
    config = images.config()
    ranking = rank_offers(config)
    with images.commands.provider.compute.open(None, None) as compute:
        kind = attrs.evolve(compute.instance_types()[0], gpu_count=1, gpu_type="L4")
    best = attrs.evolve(ranking.offers[0], offer=attrs.evolve(ranking.offers[0].offer, instance_type=kind))
    with_gpu = attrs.evolve(ranking, offers=(best, *ranking.offers))
    with pytest.raises(InputError, match=r"run.image: .* has a GPU, and the provider's default image has no driver"):
        require_offer(with_gpu, config)
    assert require_offer(with_gpu, images.config(image="with-driver")) is with_gpu
    assert require_offer(ranking, config) is ranking
    local = Images(None, shares_files=True)
    assert require_offer(with_gpu, local.config()) is with_gpu


def test_image_that_cannot_be_described_is_a_warning() -> None:
    with capture_logs() as logs:
        assert disks(Images(ProviderError("no answer", transient=True))) == {10.0}
    assert [line["log_level"] for line in logs if "boot image could not be read" in line["event"]] == ["warning"]


@pytest.mark.parametrize("transient", [True, False])
def test_current_prices_keep_the_size_of_an_image_during_an_outage(transient: bool) -> None:
    images = Images(ProviderError("no answer", transient=transient))
    config = images.config()
    with capture_logs() as logs, images.open(None, None) as compute:
        if transient:
            with pytest.raises(ProviderError):
                current_prices(config, compute, ())
        else:
            assert current_prices(config, compute, ()).offers
    assert [line for line in logs if line["log_level"] == "warning"] == []


# Current prices


def record(token: str, instance_type: str, **changes: Any) -> InstanceRecord:
    now = datetime.now(UTC)
    values: dict[str, Any] = {
        "client_token": token,
        "instance_id": f"i-{token}",
        "instance_type": instance_type,
        "zone": "memory-a",
        "provisioning_model": ProvisioningModel.SPOT,
        "boot_disk_type": "",
        "boot_disk_gb": 10.0,
        "vcpus": 2,
        "slots": 2,
        "price_per_hour": Money("0.01"),
        "intended_at": now,
        "launched_at": now,
        "ended_at": None,
    }
    return InstanceRecord(**{**values, **changes})


def test_current_prices_are_those_of_each_running_instance() -> None:
    images = Images(None)
    config = images.config(max_total_price_per_hour=0.11)
    with images.commands.provider.compute.open(None, None) as compute:
        names = {each.vcpus: each.name for each in compute.instance_types()}
        running = [
            record("a", names[2]),
            record("b", names[2], provisioning_model=ProvisioningModel.ON_DEMAND),
            record("c", "gone-1"),
        ]
        found = current_prices(config, compute, running)
    assert found.instances == {"a": Money("0.03"), "b": Money("0.10")}
    assert {each.offer.price_per_hour for each in found.offers} <= {Money("0.05"), Money("0.10")}
    assert found.reason == ""


def test_current_prices_have_a_reason_without_offers() -> None:
    images = Images(None)
    with images.commands.provider.compute.open(None, None) as compute:
        found = current_prices(images.config(max_total_price_per_hour=0.001), compute, ())
    assert found.offers == ()
    assert "max_total_price_per_hour" in found.reason


def test_current_prices_leave_out_an_unpriced_instance() -> None:
    class NoPrices:
        def price(self, requests: Sequence[OfferRequest]) -> Sequence[Offer | Unpriced]:
            return [Unpriced(request=request, reason="none today") for request in requests]

    @contextmanager
    def unpriced(settings: object, context: object) -> Iterator[NoPrices]:
        yield NoPrices()

    commands = MemoryCommands(pricing={"open": unpriced})
    config = load_config(commands.registry, file=None, options={"provider": "memory"}, environ={})
    with commands.provider.compute.open(None, None) as compute:
        found = current_prices(config, compute, [record("a", compute.instance_types()[0].name)])
    assert (found.offers, found.instances) == ((), {})


@pytest.mark.parametrize(
    ("spot", "interval", "expected"),
    [
        (False, 60.0, timedelta(hours=6)),
        (True, 60.0, timedelta(minutes=7, seconds=30)),
        (True, 600.0, timedelta(minutes=10)),
    ],
)
def test_price_interval_is_a_quarter_of_the_maximum_age(spot: bool, interval: float, expected: timedelta) -> None:
    ages = {ProvisioningModel.SPOT: timedelta(minutes=30), ProvisioningModel.ON_DEMAND: timedelta(hours=24)}
    commands = MemoryCommands(pricing={"max_age": lambda settings, model: ages[model]})
    options = {"provider": "memory", "run.use_spot": spot, "run.scaling_check_interval": interval}
    assert price_interval(load_config(commands.registry, file=None, options=options, environ={})) == expected


def test_price_interval_is_none_for_prices_that_do_not_change() -> None:
    commands = MemoryCommands()
    assert price_interval(load_config(commands.registry, file=None, options={"provider": "memory"}, environ={})) is None
