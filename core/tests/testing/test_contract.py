"""`Contract`, `eventually`, `inject`, and the imports of the kit."""

from __future__ import annotations

import importlib
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import attrs
import pytest

import cloud_tasks.testing
from cloud_tasks.errors import ProviderError
from cloud_tasks.model import BootDisk, LaunchRequest, Offer, OfferRequest, ProvisioningModel
from cloud_tasks.plugin import ComputeContext, PricingContext, QueueContext
from cloud_tasks.testing import QueueContract, eventually
from cloud_tasks.testing.fakes.faults import Fault, When, inject
from cloud_tasks.testing.fakes.memory import MemoryProvider


def test_contract_refuses_an_overridden_test() -> None:
    with pytest.raises(TypeError, match="overrides test_receive_from_an_empty_queue_returns_nothing"):

        class Quiet(QueueContract):
            def test_receive_from_an_empty_queue_returns_nothing(self) -> None:  # type: ignore[override]  # that is the point
                """Passes whatever the queue does."""


def test_contract_refuses_an_xfail_without_a_reason() -> None:
    with pytest.raises(TypeError, match="overrides test_receive_from_an_empty_queue_returns_nothing"):

        class Quiet(QueueContract):
            @pytest.mark.xfail
            def test_receive_from_an_empty_queue_returns_nothing(self) -> None:  # type: ignore[override]  # that is the point
                raise AssertionError


def test_contract_refuses_a_removed_test() -> None:
    with pytest.raises(TypeError, match="test_receive_from_an_empty_queue_returns_nothing"):

        class Quiet(QueueContract):
            test_receive_from_an_empty_queue_returns_nothing = None  # type: ignore[assignment]  # that is the point


def test_contract_applies_to_indirect_subclasses() -> None:
    class Child(QueueContract):
        pass

    with pytest.raises(TypeError, match="overrides test_receive_from_an_empty_queue_returns_nothing"):

        class Grandchild(Child):
            def test_receive_from_an_empty_queue_returns_nothing(self) -> None:  # type: ignore[override]  # that is the point
                """Passes whatever the queue does."""


def test_contract_accepts_an_xfail_with_a_reason() -> None:
    class Honest(QueueContract):
        @pytest.mark.xfail(reason="this queue has no end", strict=True)
        def test_receive_from_an_empty_queue_returns_nothing(self) -> None:  # type: ignore[override]  # that is the point
            raise AssertionError

    assert "test_receive_from_an_empty_queue_returns_nothing" in Honest.contract_tests


def test_contract_without_a_subject_fails(tmp_path: Path) -> None:
    module = tmp_path / "test_empty.py"
    module.write_text(
        "from cloud_tasks.testing import PricingContract\n\nclass TestNothing(PricingContract):\n    pass\n"
    )
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(module)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert run.returncode == 1
    assert 'TestNothing has no fixture "subject"' in run.stdout
    assert "passed" not in run.stdout


def test_eventually_fails_after_its_patience() -> None:
    with pytest.raises(AssertionError, match=r"within 0\.01 s"):
        eventually(lambda: False, patience=timedelta(seconds=0.01))


def test_eventually_shows_the_last_observation() -> None:
    numbers = iter(range(1_000_000))
    seen: list[int] = []

    def observe() -> int:
        seen.append(next(numbers))
        return seen[-1]

    with pytest.raises(AssertionError) as failed:
        eventually(observe, lambda number: number < 0, patience=timedelta(seconds=0.01), show=lambda n: f"pending {n}")
    assert str(failed.value).endswith(f"last observation: pending {seen[-1]}")


def test_inject_before_a_call_prevents_its_effect() -> None:
    provider = MemoryProvider()
    with provider.queue.open(None, QueueContext(job_id="job", name="q", lease=timedelta(seconds=30))) as healthy:
        queue = inject(healthy, [Fault(method="send", calls=frozenset({1}))])
        queue.create()
        with pytest.raises(ProviderError) as caught:
            queue.send([b"task"])
        assert caught.value.transient
        assert queue.depth().visible == 0
        assert list(queue.send([b"task"])) == []
        assert queue.depth().visible == 1


def test_inject_after_a_call_loses_its_answer_only() -> None:
    provider = MemoryProvider()
    wanted = OfferRequest(
        instance_type=provider.instances.types[0],
        zone="memory-a",
        provisioning_model=ProvisioningModel.ON_DEMAND,
        boot_disk=BootDisk(disk_type="", size_gb=1),
    )
    with provider.pricing.open(None, PricingContext()) as pricing:
        (offer,) = pricing.price([wanted])
    assert isinstance(offer, Offer)
    request = LaunchRequest(client_token="token", job_id="job", offer=offer, startup_script="", labels={})
    with provider.compute.open(None, ComputeContext(job_id="job")) as healthy:
        compute = inject(healthy, [Fault(method="launch", calls=frozenset({1}), when=When.AFTER)])
        with pytest.raises(ProviderError):
            compute.launch(request)
        again = compute.launch(request)
        assert [instance.instance_id for instance in compute.instances("job")] == [again.instance_id]
        other = compute.launch(attrs.evolve(request, client_token="other"))
        assert other.instance_id != again.instance_id


def test_fakes_import_no_pytest() -> None:
    program = (
        "import sys\n"
        "from cloud_tasks.testing import MemoryProvider, inject\n"
        "import cloud_tasks.testing.fakes.memory, cloud_tasks.testing.fakes.faults\n"
        "print('pytest' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "False\n"


def test_front_exports_every_name() -> None:
    assert all(getattr(cloud_tasks.testing, name) is not None for name in cloud_tasks.testing.__all__)
    assert sorted(name for names in cloud_tasks.testing._MODULES.values() for name in names) == sorted(
        cloud_tasks.testing.__all__
    )
    with pytest.raises(AttributeError, match="no attribute"):
        cloud_tasks.testing.__getattr__("Nonsense")


@pytest.mark.parametrize("name", ["queue", "compute", "pricing", "event_sink", "task_source", "contract"])
def test_contract_assertions_show_their_values(name: str) -> None:
    module = importlib.import_module(f"cloud_tasks.testing.contracts.{name}")
    assert type(module.__loader__).__name__ == "AssertionRewritingHook"
