"""Contract of the instance side of compute backends."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from datetime import timedelta
from typing import Any

import attrs
import pytest

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import InstanceIdentity, TerminationNotice
from cloud_tasks.plugin import ComputeBackend, InstanceContext, InstanceSide, NoSettings, NoticeTiming
from cloud_tasks.testing.contracts.contract import Contract, eventually
from cloud_tasks.testing.second_process import SecondProcess, is_installed

__all__ = ["InstanceSideContract", "InstanceSideSubject"]

_CONTROLLER = tuple(f"cloud_tasks.{name}" for name in ("cli", "config", "controller", "report", "store"))


@attrs.frozen(kw_only=True)
class InstanceSideSubject:
    """The instance side of a compute backend under test. The fixture prepares what an instance has: variables, files,
    a metadata service."""

    backend: ComputeBackend
    """Descriptor of the backend, found like an installed plugin: ``Registry(only=[\'name\'])``."""
    identity: InstanceIdentity
    """Identity of the instance, as in the listing."""
    settings: Any = attrs.field(factory=NoSettings)
    """Settings of the backend."""
    job_id: str = "contract"
    """Job of the worker."""
    give_notice: Callable[[], None] | None = None
    """Make the provider give a termination notice; None: it gives none."""
    leave: Callable[[], None] | None = None
    """Remove what `identity` is read from, as on a machine that is not an instance; None: it is always known."""
    forbidden: tuple[str, ...] = ()
    """Names of modules that no instance has or should load, such as the SDK of the controller."""
    patience: timedelta = timedelta(seconds=20)
    """Time limit for a notice to be seen."""

    @property
    def context(self) -> InstanceContext:
        """Parameters of opening the instance side."""
        return InstanceContext(job_id=self.job_id)

    def open(self) -> AbstractContextManager[InstanceSide]:
        """Open the instance side as a worker does."""
        return self.backend.open_instance(self.settings, self.context)


class InstanceSideContract(Contract):
    """Identity as in the listing, and termination notices; see `cloud_tasks.plugin.InstanceSide`."""

    @pytest.fixture
    def side(self, subject: InstanceSideSubject) -> Iterator[InstanceSide]:
        with subject.open() as side:
            yield side

    def test_identity_is_that_of_the_listing(self, side: InstanceSide, subject: InstanceSideSubject) -> None:
        found, listed = side.identity(), subject.identity
        assert found.instance_id == listed.instance_id
        assert found.zone in ("", listed.zone)
        assert found.instance_type in ("", listed.instance_type)

    def test_identity_is_the_same_for_each_call_and_object(
        self, side: InstanceSide, subject: InstanceSideSubject
    ) -> None:
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(lambda _: side.identity(), range(4)))
        with subject.open() as restarted:
            found.append(restarted.identity())
        assert len(set(found)) == 1, found

    def test_identity_without_an_instance_raises_provider_error(self, subject: InstanceSideSubject) -> None:
        if subject.leave is not None:
            subject.leave()
            with pytest.raises(ProviderError), subject.open() as side:
                side.identity()

    def test_termination_notice_without_an_instance_raises_no_other_error(self, subject: InstanceSideSubject) -> None:
        if subject.leave is not None:
            subject.leave()
        with suppress(ProviderError), subject.open() as side:
            assert side.termination_notice() is None

    def test_termination_notice_is_none_without_one(self, side: InstanceSide) -> None:
        assert [side.termination_notice() for _ in range(3)] == [None] * 3

    def test_termination_notice_is_returned_and_kept(self, side: InstanceSide, subject: InstanceSideSubject) -> None:
        if subject.give_notice is None:
            return
        assert side.termination_notice() is None
        subject.give_notice()
        notice = eventually(side.termination_notice, patience=subject.patience)
        assert isinstance(notice, TerminationNotice)
        assert notice.reason, "a notice without a reason"
        assert "\n" not in notice.reason
        assert notice.at is None or notice.at.tzinfo is not None
        assert side.termination_notice() == notice
        with subject.open() as restarted:
            eventually(restarted.termination_notice, patience=subject.patience)

    def test_open_instance_imports_no_module_of_the_controller_if_installed(self, subject: InstanceSideSubject) -> None:
        if not is_installed("compute", subject.backend):
            return
        process = SecondProcess(backend=subject.backend, settings=subject.settings, context=subject.context)
        forbidden = (*_CONTROLLER, *subject.forbidden)
        loaded = [
            module
            for module in process.open_instance()["modules"]
            if any(module == name or module.startswith(f"{name}.") for name in forbidden)
        ]
        assert loaded == [], f"imported on an instance: {', '.join(loaded)}"

    def test_notice_interval_is_a_positive_time_or_none(self, side: InstanceSide) -> None:
        if not isinstance(side, NoticeTiming) or side.notice_interval is None:
            return
        interval = side.notice_interval
        seconds = interval.total_seconds() if isinstance(interval, timedelta) else interval
        assert isinstance(seconds, int | float)
        assert math.isfinite(seconds), interval
        assert seconds > 0, interval
