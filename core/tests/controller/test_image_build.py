"""`build_image`: one instance that installs everything, its image, and its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from memory_commands import MemoryCommands

from cloud_tasks.config import JobConfig, load_config
from cloud_tasks.controller import build_image, image_build
from cloud_tasks.controller.launch.shipped_program import ShippedProgram
from cloud_tasks.errors import CloudTasksError, InputError, LaunchRefusedError, ProviderError, RefusalScope
from cloud_tasks.model import Instance, InstanceState, LaunchRequest, ProvisioningModel
from cloud_tasks.plugin import Compute, Download, hookimpl
from cloud_tasks.shipping import PREPARED, START_FAILED, Bundle, Piece
from cloud_tasks.testing import MemoryProvider


@attrs.define(slots=False)
class Maker:
    """A compute backend around that of `MemoryProvider`, with consoles by time, and images."""

    compute: Any
    consoles: list[str] = attrs.field(factory=lambda: ["booting", f"booting\n{PREPARED}JOB\n"])
    images: dict[str, str] = attrs.field(factory=dict)
    requests: list[LaunchRequest] = attrs.field(factory=list)
    refusals: list[Exception] = attrs.field(factory=list)
    failure: Exception | None = None
    made_of: list[InstanceState] = attrs.field(factory=list)
    ends: bool = False
    is_unlisted: bool = False
    throttled: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.compute, name)

    def launch(self, request: LaunchRequest) -> Instance:
        self.requests.append(request)
        if self.refusals:
            raise self.refusals.pop(0)
        found: Instance = self.compute.launch(request)
        if self.ends:
            self.compute.terminate([found.instance_id])
        return found

    def instances(self, job_id: str | None) -> list[Instance]:
        return [] if self.is_unlisted else list(self.compute.instances(job_id))

    def console_log(self, instance_id: str) -> str:
        if self.throttled:
            self.throttled -= 1
            raise ProviderError("throttled", transient=True)
        console = self.consoles[0] if len(self.consoles) == 1 else self.consoles.pop(0)
        return console.replace("JOB", self.requests[-1].job_id)

    def find_own_image(self, name: str) -> str | None:
        return self.images.get(name)

    def make_image(self, instance_id: str, name: str) -> str:
        if self.failure is not None:
            raise self.failure
        (instance,) = self.compute.instances(None)
        assert instance.instance_id == instance_id
        self.made_of.append(instance.state)
        self.images[name] = f"own/{name}"
        return f"own/{name}"

    def left(self) -> list[Instance]:
        return list(self.compute.instances(None))


@pytest.fixture
def maker() -> Maker:
    provider = MemoryProvider()
    compute = provider.compute.open(None, _context()).__enter__()
    return Maker(compute)


def _context() -> Any:
    from cloud_tasks.plugin import ComputeContext

    return ComputeContext(job_id="")


@pytest.fixture
def piece(tmp_path: Path) -> Piece:
    file = tmp_path / "environment-1.tar.gz"
    file.write_bytes(b"x")
    return Piece(name=file.name, sha256="1" * 64, size=1, path=file)


@pytest.fixture
def config(tmp_path: Path, maker: Maker, piece: Piece, monkeypatch: pytest.MonkeyPatch) -> Callable[..., JobConfig]:
    def prepared(config: JobConfig, offers: object) -> ShippedProgram:
        bundle = Bundle(code=None, environment=piece, python=">=3.11", uv={}, files=(), left_out=())
        return ShippedProgram(
            config=config, bundle=bundle, staging=f"file://{tmp_path}/staging", prepares=config.run.job_id or ""
        )

    @contextmanager
    def opened(*_: object) -> Iterator[Compute]:
        yield maker  # type: ignore[misc]

    monkeypatch.setattr(image_build, "prepare_environment", prepared)

    def load(**options: Any) -> JobConfig:
        fields = {"name": "remote", "open": opened, "staging_schemes": ("file",), "download": _download}
        fields.update(options.pop("fields", {}))
        backend = attrs.evolve(MemoryProvider().compute, **fields)
        plugin = type("Remote", (), {"cloud_tasks_register_compute": hookimpl(lambda self: [backend])})()
        registry = MemoryCommands().registry
        registry.register("remote", plugin)
        return load_config(
            registry, file=None, options={"provider": "memory", "compute": "remote", **options}, environ={}
        )

    return load


def _download(settings: object, context: Any) -> Download:
    return Download(url=f"https://store.example/{context.url.rpartition('/')[2]}")


def build(config: JobConfig, **arguments: Any) -> str:
    return build_image(config, sleep=lambda seconds: None, **arguments)


def test_image_is_made_of_an_instance_that_is_terminated(
    config: Callable[..., JobConfig], maker: Maker, tmp_path: Path
) -> None:
    name = build(config(**{"run.use_spot": "true"}))
    assert name.startswith("own/cloud-tasks-")
    assert (maker.left(), list(maker.images.values())) == ([], [name])
    (request,) = maker.requests
    assert request.offer.provisioning_model is ProvisioningModel.ON_DEMAND
    assert request.max_lifetime == timedelta(hours=1)
    assert request.startup_timeout is None
    assert f"ct_prepares={request.job_id}" in request.startup_script
    assert "https://store.example/environment-1.tar.gz" in request.startup_script
    assert (tmp_path / "staging" / "environment-1.tar.gz").exists()


def test_image_that_exists_is_not_made_again(config: Callable[..., JobConfig], maker: Maker) -> None:
    notes: list[str] = []
    first = build(config())
    assert build(config(), note=notes.append) == first
    assert len(maker.requests) == 1
    assert notes == [f"{first.removeprefix('own/')} exists"]


def test_name_of_an_image_changes_with_its_base_and_content(
    config: Callable[..., JobConfig], maker: Maker, piece: Piece, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [build(config()), build(config(**{"run.image": "debian"}))]
    object.__setattr__(piece, "sha256", "2" * 64)
    assert len({*names, build(config())}) == 3


@pytest.mark.parametrize(
    ("console", "reason"),
    [
        (f"x\n{START_FAILED}requirements: no matching distribution\n", "requirements: no matching distribution"),
        ("error: it is odd\n", "not ready within 10m: error: it is odd"),
    ],
)
def test_instance_that_cannot_install_is_terminated_with_the_reason(
    config: Callable[..., JobConfig], maker: Maker, console: str, reason: str
) -> None:
    maker.consoles = [console]
    times = iter(range(0, 10**6, 100))
    with pytest.raises(CloudTasksError, match=reason):
        build(config(), clock=lambda: float(next(times)))
    assert (maker.left(), maker.images) == ([], {})


def test_instance_that_ended_is_named(config: Callable[..., JobConfig], maker: Maker) -> None:
    maker.consoles, maker.ends = ["nothing"], True
    times = iter(range(0, 10**6, 10))
    with pytest.raises(CloudTasksError, match="it ended: nothing"):
        build(config(), clock=lambda: float(next(times)))


@pytest.mark.parametrize("failure", [ProviderError("no quota"), KeyboardInterrupt()])
def test_instance_is_terminated_whatever_happens(
    config: Callable[..., JobConfig], maker: Maker, failure: BaseException
) -> None:
    maker.failure = failure  # type: ignore[assignment]
    with pytest.raises(type(failure)):
        build(config())
    assert (maker.left(), maker.images) == ([], {})


def test_offer_that_is_refused_is_followed_by_the_next(config: Callable[..., JobConfig], maker: Maker) -> None:
    refusal = LaunchRefusedError(
        "none left", scope=RefusalScope.INSTANCE_TYPE, retry_after=timedelta(hours=1), reason="STOCK_OUT"
    )
    maker.refusals = [refusal]
    assert build(config()).startswith("own/")
    first, second = (request.offer for request in maker.requests)
    assert (first.instance_type.name, first.zone) != (second.instance_type.name, second.zone)
    maker.images.clear()
    maker.refusals = [refusal] * 20
    with pytest.raises(CloudTasksError, match="no instance: none left"):
        build(config())


@pytest.mark.parametrize("fields", [{"download": None}, {"open": MemoryProvider().compute.open}])
def test_provider_without_images_is_refused(config: Callable[..., JobConfig], fields: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r'instances of "remote"'):
        build(config(fields=fields))


def test_instance_that_no_listing_shows_yet_is_terminated(config: Callable[..., JobConfig], maker: Maker) -> None:
    maker.consoles, maker.is_unlisted = [f"{START_FAILED}requirements: none"], True
    with pytest.raises(CloudTasksError, match="requirements: none"):
        build(config())
    maker.is_unlisted = False
    assert maker.left() == []


def test_image_is_made_after_errors_of_the_console_that_pass(config: Callable[..., JobConfig], maker: Maker) -> None:
    maker.throttled = 3
    assert build(config()).startswith("own/")


def test_line_of_another_build_or_of_a_user_is_not_the_ready_line(
    config: Callable[..., JobConfig], maker: Maker
) -> None:
    maker.consoles = [f"echo {PREPARED}\n+ printf '{PREPARED}%s' JOB\n{PREPARED}image-1\n"]
    times = iter(range(0, 10**6, 100))
    with pytest.raises(CloudTasksError, match="not ready"):
        build(config(), clock=lambda: float(next(times)))


def test_instance_of_a_launch_without_an_answer_is_terminated(config: Callable[..., JobConfig], maker: Maker) -> None:
    pauses: list[float] = []

    def launch(request: LaunchRequest) -> Instance:
        maker.compute.launch(request)
        maker.is_unlisted = True
        raise ProviderError("no answer", transient=True)

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        maker.is_unlisted = False

    object.__setattr__(maker, "launch", launch)
    with pytest.raises(ProviderError, match="no answer"):
        build_image(config(), sleep=sleep)
    assert maker.left() == []
    assert pauses[0] >= 15
