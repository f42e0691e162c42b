"""Contract of compute backends: unmanaged instances, several processes, times, consoles and outages."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import attrs
import pytest

from cloud_tasks.errors import LaunchFailedError, LaunchRefusedError, ProviderError
from cloud_tasks.model import Instance, InstanceState
from cloud_tasks.plugin import Compute, Reach
from cloud_tasks.testing.contracts.compute_subject import (
    ComputeFixtures,
    ComputeSubject,
    InstanceWaiter,
    Launch,
    RequestFactory,
    described,
    live,
    require_consistent_times,
    times_are_those_of_the_test,
)
from cloud_tasks.testing.contracts.contract import eventually, require_provider_errors
from cloud_tasks.testing.second_process import SecondProcess, is_installed

__all__ = ["ComputeSafety"]

_CONSOLE_BYTES = 64 * 1024
_RUN = "while true; do sleep 1; done\n"
_LONG_OUTPUT = f"#!/bin/bash\necho contract-begin\nprintf '%0100d\\n' {{1..1500}}\necho contract-end\n{_RUN}"
_SECRET = "CLOUD_TASKS_CONTRACT_SECRET"
_FOREIGN = ("CLOUD_TASKS_CONTRACT_FOREIGN", "RMS_CLOUD_TASKS_CONTRACT_FOREIGN")
_SECRET_SCRIPT = f"""#!/bin/bash
secret="${{{_SECRET}-}}"
echo "contract-digest $(printf %s "$secret" | sha256sum)"
echo "contract-shown $(cat /proc/$$/cmdline "$0" 2>/dev/null | grep -acF -e "${{secret%% *}}")"
echo "contract-foreign $(env | grep -c CONTRACT_FOREIGN)"
echo contract-end
{_RUN}"""
_COMMENTS = "# a comment of a long script\n" * 300
_TEXT = 'contract-text λ "a" `b` $c %d {e} \\\\f'
_ENVIRONMENT_SCRIPT = f"""#!/bin/bash -f
{_COMMENTS}printf '%s\\n' '{_TEXT}'
case $- in *f*) echo "contract-options set";; esac
echo "contract-folder '${{CLOUD_TASKS_SUBMIT_DIR-}}'"
echo contract-end
{_RUN}"""
_ORDER = (InstanceState.PENDING, InstanceState.STARTING, InstanceState.RUNNING)


class ComputeSafety(ComputeFixtures):
    """Part of the compute contract."""

    # Unmanaged instances

    def test_terminate_never_ends_an_unmanaged_instance(
        self,
        compute: Compute,
        unmanaged: str | None,
        request_of: RequestFactory,
        listed: InstanceWaiter,
        all_ended: Callable[[], object],
    ) -> None:
        def is_alive() -> bool:
            shown = compute.instances(None, foreign=True)
            return any(each.instance_id == unmanaged and each.is_alive for each in shown)

        launched = compute.launch(request_of())
        listed(1)
        was_alive = is_alive()
        ids = [launched.instance_id] if unmanaged is None else [unmanaged, launched.instance_id]
        # The id may be refused, as long as the others are terminated.
        with suppress(ProviderError):
            compute.terminate(ids)
        all_ended()
        assert is_alive() == was_alive, f"terminate ended the unmanaged instance {unmanaged}"

    # Several processes

    def test_launch_by_two_processes_with_one_token_starts_one_instance(
        self, compute: Compute, subject: ComputeSubject, job: str, request_of: RequestFactory, listed: InstanceWaiter
    ) -> None:
        request = request_of()
        together = threading.Barrier(2)

        def launch(each: Compute) -> str:
            together.wait()
            return each.launch(request).instance_id

        with ExitStack() as stack, ThreadPoolExecutor(2) as threads:
            processes = [stack.enter_context(subject.open(job)) for _ in range(2)]
            ids = set(threads.map(launch, processes))
        assert {instance.instance_id for instance in listed(1)} == ids
        assert len(ids) == 1

    def test_launch_by_another_process_with_one_token_starts_no_other_instance_if_installed(
        self, compute: Compute, subject: ComputeSubject, job: str, request_of: RequestFactory, listed: InstanceWaiter
    ) -> None:
        if not is_installed("compute", subject.backend):
            return
        request = request_of()
        launched = compute.launch(request).instance_id
        process = SecondProcess(backend=subject.backend, settings=subject.settings, context=subject.context(job))
        assert process.launch(request) == {"id": launched}
        assert [instance.instance_id for instance in listed(1)] == [launched]

    def test_launch_repeated_after_the_end_of_its_instance_starts_no_other_instance(
        self,
        compute: Compute,
        request_of: RequestFactory,
        all_ended: Callable[[], object],
    ) -> None:
        request = request_of()
        launched = compute.launch(request)
        # Without a listing in between: the instance is still pending or starting.
        compute.terminate([launched.instance_id])
        all_ended()
        with suppress(LaunchFailedError, LaunchRefusedError):
            again = compute.launch(request)
            assert not again.is_alive, f"a second instance, or one that was terminated: {again}"
            assert again.instance_id == launched.instance_id
        all_ended()

    # States and times

    def test_states_and_times_of_a_starting_instance_are_consistent(
        self, compute: Compute, subject: ComputeSubject, job: str, request_of: RequestFactory
    ) -> None:
        seen = [compute.launch(request_of())]

        def observe() -> list[Instance]:
            seen.extend(live(compute, job))
            return seen

        eventually(
            observe,
            lambda found: found[-1].state is InstanceState.RUNNING,
            patience=subject.traits.listing_lag + subject.patience,
            show=lambda found: described(found[-1:]),
        )
        states = [instance.state for instance in seen]
        assert states == sorted(states, key=_ORDER.index), f"a state came back: {described(seen)}"
        assert len({instance.created_at for instance in seen}) == 1, f"created_at changed: {seen}"
        starts = [instance.started_at for instance in seen if instance.started_at is not None]
        assert len(set(starts)) <= 1, f"started_at changed: {starts}"

    def test_times_are_not_before_the_request_nor_in_the_future(
        self,
        compute: Compute,
        subject: ComputeSubject,
        job: str,
        request_of: RequestFactory,
        all_ended: Callable[[], object],
    ) -> None:
        seen: list[Instance] = []
        with times_are_those_of_the_test(subject, seen):
            seen.append(compute.launch(request_of()))
            found = eventually(
                lambda: live(compute, job),
                lambda found: any(each.state is InstanceState.RUNNING for each in found),
                patience=subject.traits.listing_lag + subject.patience,
                show=described,
            )
            seen += found
            compute.terminate([seen[0].instance_id])
            all_ended()
            # A provider may keep nothing.
            seen += compute.instances(job, include_terminated=True)

    def test_times_of_a_terminated_instance_are_consistent(
        self,
        compute: Compute,
        subject: ComputeSubject,
        job: str,
        request_of: RequestFactory,
        listed: InstanceWaiter,
        all_ended: Callable[[], object],
    ) -> None:
        launched = compute.launch(request_of())
        (running,) = listed(1)
        compute.terminate([launched.instance_id])
        all_ended()
        # A provider may keep nothing.
        for instance in compute.instances(job, include_terminated=True):
            assert instance.instance_id == launched.instance_id
            assert not instance.is_alive
            assert instance.created_at == running.created_at
            assert running.started_at in (None, instance.started_at)
            require_consistent_times(instance)

    # Scripts

    def test_script_runs_with_its_first_line_and_the_documented_variables(
        self, compute: Compute, subject: ComputeSubject, job: str, request_of: RequestFactory
    ) -> None:
        launched = compute.launch(request_of(startup_script=_ENVIRONMENT_SCRIPT))
        _Console(compute, subject, launched).wait_for("contract-end")
        if subject.runs_scripts:
            log = compute.console_log(launched.instance_id)
            assert "contract-options set" in log, f"the options of the #! line are not set: {log}"
            assert _TEXT in log, f"the text of the script was changed: {log}"
            folder = str(subject.context(job).submit_dir) if subject.traits.located is not Reach.NETWORK else ""
            assert f"contract-folder '{folder}'" in log, f"CLOUD_TASKS_SUBMIT_DIR is not {folder!r}: {log}"

    # Consoles

    def test_console_log_has_the_output_of_the_script(
        self, compute: Compute, subject: ComputeSubject, request_of: RequestFactory, launch: Launch
    ) -> None:
        other = launch(request_of())
        second = subject.script.replace("contract-marker", "contract-second")
        launched = launch(request_of(startup_script=second))
        for instance, own, foreign in ((other, "marker", "second"), (launched, "second", "marker")):
            _Console(compute, subject, instance).wait_for(f"contract-{own}")
            log = compute.console_log(instance.instance_id)
            assert f"contract-{foreign}" not in log, f"output of another instance: {log[-300:]}"
            assert len(log) <= _CONSOLE_BYTES

    def test_console_log_has_the_end_of_a_long_output(
        self, compute: Compute, subject: ComputeSubject, request_of: RequestFactory
    ) -> None:
        launched = compute.launch(request_of(startup_script=_LONG_OUTPUT))
        _Console(compute, subject, launched).wait_for("contract-end")
        assert len(compute.console_log(launched.instance_id).encode()) <= _CONSOLE_BYTES

    def test_console_log_of_an_unknown_instance_raises_no_other_error(self, compute: Compute) -> None:
        with suppress(ProviderError):
            assert compute.console_log("contract-unknown-instance") == ""

    # Location

    def test_location_matches_the_files_of_the_controller(
        self, compute: Compute, subject: ComputeSubject, request_of: RequestFactory, tmp_path: Path
    ) -> None:
        traits = subject.traits
        assert isinstance(traits.located, Reach)
        assert traits.located is Reach.MACHINE or not traits.shares_files
        if traits.located is Reach.MACHINE:
            (tmp_path / "marker").write_text("contract-location\n")
            script = f"#!/bin/bash\ncat '{tmp_path / 'marker'}'\n{_RUN}"
            _Console(compute, subject, compute.launch(request_of(startup_script=script))).wait_for("contract-location")

    # Secrets

    def test_secrets_are_delivered_to_the_script_alone_if_supported(
        self, compute: Compute, subject: ComputeSubject, request_of: RequestFactory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if not subject.traits.delivers_secrets:
            return
        for name in _FOREIGN:
            monkeypatch.setenv(name, "contract-foreign")
        mark = f"contract-{uuid4().hex}"
        secret = f'{mark} it\'s "quoted" $HOME `id` \\n ='
        request = request_of(startup_script=_SECRET_SCRIPT, secrets={_SECRET: secret})
        launched = compute.launch(request)
        assert mark not in repr(request) + repr(launched) + repr(live(compute, request.job_id))
        console = _Console(compute, subject, launched)
        console.wait_for("contract-end")
        if subject.runs_scripts:
            log = compute.console_log(launched.instance_id)
            digest = sha256(secret.encode()).hexdigest()
            assert f"contract-digest {digest}" in log, f"the script did not get the secret unchanged: {log}"
            assert "contract-shown 0" in log, f"the secret is in the script's text or arguments: {log}"
            assert "contract-foreign 0" in log, f"the script got variables of the controller: {log}"

    # Outages

    def test_unreachable_provider_raises_transient_provider_errors(
        self, subject: ComputeSubject, job: str, request_of: RequestFactory
    ) -> None:
        if subject.unreachable is not None:
            elsewhere = attrs.evolve(subject, settings=subject.unreachable)
            require_provider_errors(_calls(elsewhere, job, request_of), transient=True)

    def test_refused_credentials_raise_permanent_provider_errors(
        self, subject: ComputeSubject, job: str, request_of: RequestFactory
    ) -> None:
        if subject.refused is not None:
            require_provider_errors(
                _calls(attrs.evolve(subject, settings=subject.refused), job, request_of), transient=False
            )


@attrs.frozen
class _Console:
    compute: Compute
    subject: ComputeSubject
    instance: Instance

    def wait_for(self, text: str) -> None:
        """Wait until the console has a text; a subject without consoles has none."""
        if self.subject.runs_scripts:
            eventually(
                lambda: self.compute.console_log(self.instance.instance_id),
                lambda log: text in log,
                patience=self.subject.patience,
                show=lambda log: (
                    f"{described(self.compute.instances(self.instance.job_id))}; "
                    f"console of {len(log)} characters: {log[:100]!r} ... {log[-300:]!r}"
                ),
            )


def _calls(subject: ComputeSubject, job: str, request_of: RequestFactory) -> dict[str, Callable[[], object]]:
    """Return calls of the methods that need the provider, each with an object of its own."""

    def call(method: Callable[[Compute], object]) -> Callable[[], object]:
        def opened() -> object:
            with subject.open(job) as compute:
                return method(compute)

        return opened

    return {
        "instances of the job": call(lambda compute: compute.instances(job)),
        "instances of all jobs": call(lambda compute: compute.instances(None)),
        "launch": call(lambda compute: compute.launch(request_of())),
        "terminate": call(lambda compute: compute.terminate(["contract-unknown-instance"])),
    }
