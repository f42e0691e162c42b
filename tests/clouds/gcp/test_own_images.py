"""Images that are made of instances: complete, labelled, or gone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import pytest
from gce_fake import GceFake
from gce_requests import launch_request, open_compute

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import Architecture
from cloud_tasks.plugin import ImageMaker
from cloud_tasks_gcp.compute import own_images

NAME = "cloud-tasks-0123456789abcdef"
PATH = f"projects/fake-project/global/images/{NAME}"


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[GceFake]:
    with GceFake(tmp_path / "gce") as fake:
        yield fake


@pytest.fixture
def compute(fake: GceFake, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(own_images, "_PAUSE", 0.01)
    with open_compute(fake) as opened:
        assert isinstance(opened, ImageMaker)
        yield opened


def test_image_is_made_of_the_stopped_instance_and_starts_others(compute: Any, fake: GceFake) -> None:
    instance = compute.launch(launch_request())
    assert compute.find_own_image(NAME) is None
    assert compute.make_image(instance.instance_id, NAME) == PATH
    assert compute.find_own_image(NAME) == PATH
    image = fake.cloud.own_images.found[NAME]
    assert image["labels"] == {"cloud-tasks-image": "1"}
    compute.terminate([instance.instance_id])
    assert compute.find_image(PATH, Architecture.X86_64).name
    other = compute.launch(attrs.evolve(launch_request(), image=PATH))
    compute.terminate([other.instance_id])


def test_make_image_returns_the_one_that_exists_or_is_being_made(compute: Any) -> None:
    instances = [compute.launch(launch_request()).instance_id for _ in range(2)]
    with ThreadPoolExecutor() as pool:
        assert list(pool.map(lambda each: compute.make_image(each, NAME), instances)) == [PATH, PATH]
    compute.terminate(instances)


def test_image_that_failed_is_deleted_and_its_reason_is_raised(compute: Any, fake: GceFake) -> None:
    instance = compute.launch(launch_request())
    fake.cloud.own_images.failure = "Internal error."
    with pytest.raises(ProviderError, match=f"cannot make the image {NAME}: INTERNAL_ERROR: Internal error"):
        compute.make_image(instance.instance_id, NAME)
    assert fake.cloud.own_images.found == {}
    assert compute.make_image(instance.instance_id, NAME) == PATH
    compute.terminate([instance.instance_id])


def test_image_of_the_user_is_neither_found_nor_deleted(compute: Any, fake: GceFake) -> None:
    instance = compute.launch(launch_request())
    own = {"project": "fake-project", "name": NAME, "family": "", "labels": {}, "status": "READY"}
    fake.cloud.own_images.found[NAME] = own
    assert compute.find_own_image(NAME) is None
    with pytest.raises(ProviderError, match="the project has another one of this name"):
        compute.make_image(instance.instance_id, NAME)
    assert fake.cloud.own_images.found == {NAME: own}
    compute.terminate([instance.instance_id])


def test_image_of_an_instance_that_is_gone_is_refused(compute: Any) -> None:
    with pytest.raises(ProviderError, match="ct-job-1"):
        compute.make_image("ct-job-1", NAME)
