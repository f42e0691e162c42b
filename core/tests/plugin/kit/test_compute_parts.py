"""Images, quotas, consoles and flat prices."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_tasks.errors import InputError, ProviderError
from cloud_tasks.model import (
    Architecture,
    BootDisk,
    Headroom,
    Image,
    InstanceState,
    InstanceType,
    LaunchRequest,
    Money,
    Offer,
    OfferRequest,
    PriceBreakdown,
    ProvisioningModel,
    Unpriced,
)
from cloud_tasks.plugin.kit import (
    CONSOLE_BYTES,
    FlatPricing,
    ImageResolver,
    ended_instance,
    headroom_within,
    newest_images,
    tail_of_file,
)

X86, ARM = Architecture.X86_64, Architecture.ARM64


def test_image_is_looked_up_once_by_any_number_of_threads() -> None:
    calls: list[tuple[str | None, Architecture]] = []

    def look_up(name: str | None, architecture: Architecture) -> str:
        calls.append((name, architecture))
        return f"{name}/{architecture.value}"

    images = ImageResolver(look_up, hint="list them")
    threads = [threading.Thread(target=images.resolve, args=(None, X86)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert images.resolve("own", ARM) == "own/arm64"
    assert calls == [(None, X86), ("own", ARM)]


def test_failed_look_up_is_repeated() -> None:
    answers: list[object] = [ProviderError("down"), None, "image"]

    def look_up(name: str | None, architecture: Architecture) -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    images = ImageResolver(look_up, hint="list them")
    with pytest.raises(ProviderError, match="down"):
        images.resolve("own", X86)
    with pytest.raises(InputError, match=r'run\.image: image "own" not found for x86_64') as missing:
        images.resolve("own", X86)
    assert missing.value.hint == "list them"
    assert images.resolve("own", X86) == images.resolve("own", X86) == "image"


def test_missing_default_image_is_named_as_such() -> None:
    with pytest.raises(InputError, match="default image not found for arm64"):
        ImageResolver(lambda name, architecture: None, hint="").resolve(None, ARM)


def image(name: str, day: int | None, architecture: Architecture = X86, owner: str = "self") -> Image:
    created_at = None if day is None else datetime(2026, 1, day, tzinfo=UTC)
    return Image(name=name, uri=f"{name}-{day}", architecture=architecture, owner=owner, created_at=created_at)


def test_newest_images_has_one_of_each_name_architecture_and_owner() -> None:
    found = newest_images(
        [image("a", None), image("a", 1), image("b", 3), image("a", 2), image("a", 2, ARM), image("a", 1, X86, "else")]
    )
    assert [each.uri for each in found] == ["b-3", "a-2", "a-2", "a-1"]
    assert newest_images([]) == ()


def test_headroom_is_that_of_the_tightest_quota() -> None:
    needs = [("instances", 1.0), ("cpus", 4), ("cpus", 4), ("gpus", 1), ("addresses", 0)]
    free = {"instances": 10, "cpus": 17, "addresses": 0, "other": 0}
    assert headroom_within(needs, free) == Headroom(instances=2, limited_by="cpus")


def test_headroom_is_unknown_without_a_known_quota() -> None:
    assert headroom_within([("cpus", 4)], {}) is None
    assert headroom_within([], {"cpus": 4}) is None


NAMES = st.sampled_from("abc")


@given(st.dictionaries(NAMES, st.integers(1, 9)), st.dictionaries(NAMES, st.floats(-9, 99)))
def test_headroom_fits_every_quota_and_one_more_does_not(needs: dict[str, int], free: dict[str, float]) -> None:
    found = headroom_within(needs.items(), free)
    known = needs.keys() & free.keys()
    assert (found is None) == (not known)
    if found is not None:
        assert found.instances >= 0
        assert all(found.instances * needs[name] <= max(0, free[name]) for name in known)
        assert any((found.instances + 1) * needs[name] > free[name] for name in known)


def test_tail_of_file_is_its_last_bytes(tmp_path: Path) -> None:
    file = tmp_path / "console.log"
    assert tail_of_file(file) == ""
    file.write_bytes(b"x" * CONSOLE_BYTES + b"the end\xff")
    found = tail_of_file(file)
    assert found.endswith("the end\ufffd")
    assert len(found) == CONSOLE_BYTES
    with pytest.raises(ProviderError, match="cannot read"):
        tail_of_file(tmp_path)


def test_ended_instance_is_that_of_its_request() -> None:
    small = InstanceType(name="small", vcpus=2, memory_gb=4.0, architecture=X86, zones=("north",))
    disk = BootDisk(disk_type="ssd", size_gb=10)
    offer = Offer(
        instance_type=small,
        zone="north",
        provisioning_model=ProvisioningModel.SPOT,
        boot_disk=disk,
        price=PriceBreakdown(cpu=Money("0.1")),
        priced_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    launch = LaunchRequest(client_token="token", job_id="job", offer=offer, startup_script="", labels={"run": "1"})
    found = ended_instance(launch, "job-token")
    assert (found.instance_id, found.job_id, found.client_token) == ("job-token", "job", "token")
    assert (found.state, found.labels) == (InstanceState.TERMINATED, {"run": "1"})
    assert (found.instance_type, found.zone, found.boot_disk_type) == ("small", "north", "ssd")
    assert found.provisioning_model is ProvisioningModel.SPOT


def request(model: ProvisioningModel = ProvisioningModel.ON_DEMAND) -> OfferRequest:
    small = InstanceType(name="small", vcpus=2, memory_gb=4.0, architecture=X86, zones=("north",))
    return OfferRequest(
        instance_type=small, zone="north", provisioning_model=model, boot_disk=BootDisk(disk_type="", size_gb=10)
    )


def test_flat_pricing_answers_each_request_in_order() -> None:
    def price(wanted: OfferRequest) -> PriceBreakdown | str:
        if wanted.provisioning_model is ProvisioningModel.SPOT:
            return "no spot instances"
        return PriceBreakdown(cpu=Money("0.05") * wanted.instance_type.vcpus)

    pricing = FlatPricing(price)
    offer, unpriced = pricing.price([request(), request(ProvisioningModel.SPOT)])
    assert isinstance(offer, Offer)
    assert (offer.price_per_hour, offer.zone) == (Money("0.10"), "north")
    assert unpriced == Unpriced(request=request(ProvisioningModel.SPOT), reason="no spot instances")
    pricing.close()
