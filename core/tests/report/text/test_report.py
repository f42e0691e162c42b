"""Texts that users and their scripts rely on, verbatim."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import attrs
import pytest

from cloud_tasks.model import (
    Architecture,
    AttemptOutcome,
    BootDisk,
    Constraints,
    EventType,
    InstanceState,
    InstanceType,
    Limits,
    Money,
    Offer,
    PriceBreakdown,
    ProvisioningModel,
    TaskStatus,
)
from cloud_tasks.quantities import format_duration
from cloud_tasks.report import (
    render_final_report,
    render_instance_table,
    render_job_configuration,
    render_pending,
    render_selected_offer,
    render_summary,
    status_dict,
    throughput,
)
from cloud_tasks.selection import RankedOffer, Ranking
from cloud_tasks.store import (
    BrokenWorker,
    ElapsedStatistics,
    Failure,
    InstanceRecord,
    JobRecord,
    JobStatistics,
    JobSummary,
    TypeCost,
)

START = datetime(2025, 6, 11, 15, 0, 0, tzinfo=UTC)

ELAPSED = ElapsedStatistics(
    count=120,
    minimum=0.5,
    maximum=31.259,
    mean=2.5,
    deviation=0.754,
    median=2.25,
    percentile_90=3.996,
    percentile_95=5.0,
    exact=True,
)


def a_summary(elapsed: ElapsedStatistics | None = ELAPSED, **counts: int) -> JobSummary:
    everything = {status: counts.get(status.value, 0) for status in TaskStatus}
    return JobSummary(
        job=JobRecord(job_id="sums", queue_name="sums", run_id="r1", created_at=START),
        total=sum(everything.values()),
        counts=everything,
        events=dict.fromkeys(EventType, 0),
        elapsed=elapsed,
        first_start=START,
    )


def statistics_of(summary: JobSummary, **changes: object) -> JobStatistics:
    facts = {
        "summary": summary,
        "elapsed": summary.elapsed,
        "spot_terminations": (),
        "cost": Money.zero(),
        "costs": (),
        "instances": 0,
    }
    return JobStatistics(**{**facts, **changes})


def a_failure(
    summary: str, count: int, *, outcome: AttemptOutcome = AttemptOutcome.EXCEPTION, **changes: object
) -> Failure:
    return Failure(outcome=outcome, summary=summary, count=count, **changes)


def test_final_report_names_broken_instances() -> None:
    worker = BrokenWorker(name="local-2", reason="380 of 380 tasks failed, elsewhere 20 of 20 completed")
    shown = render_final_report(
        statistics_of(a_summary(completed=20, exited=380), broken_workers=(worker,)), timedelta(seconds=4)
    )
    assert "Broken instances:\n  local-2: 380 of 380 tasks failed, elsewhere 20 of 20 completed" in shown


def an_instance(zone: str = "us-central1-c", **changes: object) -> InstanceRecord:
    record = InstanceRecord(
        client_token="t",
        instance_id="i",
        instance_type="e2-standard-8",
        zone=zone,
        provisioning_model=ProvisioningModel.ON_DEMAND,
        boot_disk_type="pd-standard",
        boot_disk_gb=10,
        vcpus=8,
        slots=8,
        price_per_hour=Money("0.26859"),
        intended_at=START,
        launched_at=START,
        ended_at=None,
        state=InstanceState.RUNNING,
    )
    return attrs.evolve(record, **changes)


def an_offer(zone: str = "us-central1-c", **changes: object) -> RankedOffer:
    instance_type = InstanceType(
        name="e2-standard-8", vcpus=8, memory_gb=32, architecture=Architecture.X86_64, zones=("us-central1-c",)
    )
    offer = Offer(
        instance_type=attrs.evolve(instance_type, **changes),
        zone=zone,
        provisioning_model=ProvisioningModel.ON_DEMAND,
        boot_disk=BootDisk(disk_type="pd-standard", size_gb=10),
        price=PriceBreakdown(cpu=Money("0.26859")),
        priced_at=START,
    )
    return RankedOffer(offer=offer, slots=8, price_per_slot=offer.price_per_hour / 8)


def test_render_summary_of_a_running_job():
    assert render_summary(a_summary(completed=120, queued=300, running=80)).splitlines() == [
        "Summary:",
        "  Total tasks: 500",
        "    completed: 120",
        "    running: 80",
        "    queued: 300",
        "  Elapsed time statistics:",
        "    Range:  0.50 to 31.26 seconds",
        "    Mean:   2.50 +/- 0.75 seconds",
        "    Median: 2.25 seconds",
        "    90th %: 4.00 seconds",
        "    95th %: 5.00 seconds",
    ]


def test_render_summary_in_the_log_of_a_run_has_one_number_for_running_and_queued_tasks():
    text = render_summary(a_summary(elapsed=None, completed=100, queued=9000, running=900), separates_queued=False)
    assert text.splitlines() == ["Summary:", "  Total tasks: 10000", "    completed: 100", "    in_progress: 9900"]


def test_render_summary_before_the_first_result():
    assert render_summary(a_summary(elapsed=None, pending=5, queued=2)).splitlines() == [
        "Summary:",
        "  Total tasks: 7",
        "    queued: 2",
        "    pending: 5",
    ]


def test_render_summary_shows_every_status_with_tasks():
    text = render_summary(a_summary(elapsed=None, completed=1, failed=2, timed_out=3, exited=4, dead=5))
    assert [line.strip() for line in text.splitlines()[2:]] == [
        "completed: 1",
        "failed: 2",
        "timed_out: 3",
        "exited: 4",
        "dead: 5",
    ]


def test_render_summary_projects_end_and_cost():
    summary = a_summary(elapsed=None, completed=100, queued=200)
    going = throughput(summary, START + timedelta(hours=1))
    text = render_summary(summary, pace=going, cost=Money("1.50"), price_per_hour=Money("0.75"))
    assert text.splitlines()[-3:] == [
        "  Rate: 100.0 tasks/hour",
        "  Remaining time: about 2h 0m 0s (until 2025-06-11 18:00 UTC)",
        "  Cost: $1.50 so far, $0.75/hour now, projected total $3.00",
    ]


def test_throughput_counts_only_the_current_run():
    now = START + timedelta(days=2)
    begun = now - timedelta(hours=1)
    summary = attrs.evolve(a_summary(completed=100, queued=100), run_started_at=begun, finished_before=50)
    going = throughput(summary, now)
    assert going is not None
    assert going.tasks_per_hour == pytest.approx(50)
    assert going.remaining_time == timedelta(hours=2)


def test_throughput_is_none_before_the_first_result():
    assert throughput(a_summary(queued=3), START + timedelta(hours=1)) is None
    assert throughput(a_summary(completed=3), START) is None


def test_render_final_report():
    summary = a_summary(completed=485, failed=10, timed_out=5)
    report = render_final_report(
        statistics_of(summary, failures=(a_failure("ValueError: bad sum", 10),), failure_kinds=1),
        timedelta(minutes=8, seconds=27),
    )
    assert report.splitlines() == [
        "============================================================",
        "=== JOB FINISHED: 15 of 500 tasks failed ===",
        "============================================================",
        "",
        "Total tasks: 500",
        "  Completed: 485",
        "  Failed: 10",
        "  Timed_out: 5",
        "",
        "Elapsed time: 8m 27s",
        "Tasks/hour: 3550.3",
        "",
        "Task elapsed time statistics:",
        "  Range:  0.50 to 31.26 seconds",
        "  Mean:   2.50 +/- 0.75 seconds",
        "  Median: 2.25 seconds",
        "  90th %: 4.00 seconds",
        "  95th %: 5.00 seconds",
        "",
        "Exceptions summary:",
        "     10: ValueError: bad sum",
        "",
        "Spot terminations: 0 hosts",
        "",
        "============================================================",
    ]


@pytest.mark.parametrize(
    ("counts", "heading"),
    [
        ({"completed": 25}, "JOB COMPLETE"),
        ({}, "JOB COMPLETE"),
        ({"completed": 21, "exited": 4}, "JOB FINISHED: 4 of 25 tasks failed"),
        ({"failed": 1}, "JOB FINISHED: 1 of 1 task failed"),
        ({"dead": 10_000}, "JOB FINISHED: 10,000 of 10,000 tasks failed"),
        ({"completed": 3, "running": 1}, "JOB NOT COMPLETE: 1 TASK REMAINS"),
        ({"timed_out": 3, "queued": 2}, "JOB NOT COMPLETE: 2 TASKS REMAIN"),
    ],
)
def test_heading_says_complete_only_if_every_task_completed(counts: dict[str, int], heading: str) -> None:
    summary = a_summary(None, **counts)
    assert render_final_report(statistics_of(summary), timedelta(0)).splitlines()[1] == f"=== {heading} ==="
    assert status_dict(summary)["headline"] == heading


def test_render_final_report_groups_every_kind_of_failure_and_names_the_next_commands() -> None:
    exited, timed_out = AttemptOutcome.EXITED, AttemptOutcome.TIMED_OUT
    failures = (
        a_failure("exit code 1: cat: a7: no file", 21, outcome=exited, identical=False, log_tail="cat: a7: no file"),
        a_failure("timed out after 5s (max_runtime)", 3, outcome=timed_out, log_tail="step 1\nstep \x1b[2J2\n\n"),
        a_failure("ValueError: bad", 2, log_tail="not shown"),
        a_failure("not yet", 1, outcome=AttemptOutcome.RETRY_REQUESTED),
        a_failure("preempted", 9, outcome=AttemptOutcome.LOST),
    )
    statistics = statistics_of(a_summary(None, exited=21, timed_out=3), failures=failures, failure_kinds=5)
    lines = render_final_report(statistics, timedelta(0), next_steps=("See one: x", "Retry them: y")).splitlines()
    begin = lines.index("Exceptions summary:")
    assert lines[begin : begin + 14] == [
        "Exceptions summary:",
        "      2: ValueError: bad",
        "Other failures:",
        "     21: exit code 1: cat: a7: no file (and similar)",
        "      3: timed out after 5s (max_runtime)",
        "         last output: step \\x1b[2J2",
        "Requested retries:",
        "      1: not yet",
        "Interrupted attempts:",
        "      9: preempted",
        "",
        "See one: x",
        "Retry them: y",
        "",
    ]


def test_render_final_report_shows_cost_and_interruptions():
    summary = attrs.evolve(a_summary(completed=100), attempts=112, retries=8, losses=4, duplicates=3, late=1)
    report = render_final_report(
        statistics_of(
            summary,
            failures=(a_failure("ValueError: a", 7), a_failure("KeyError: b", 1)),
            failure_kinds=5,
            spot_terminations=("host-1",),
            cost=Money("0.50"),
            costs=(
                TypeCost(
                    instance_type="n2",
                    provisioning_model=ProvisioningModel.SPOT,
                    instances=1,
                    hours=2.5,
                    cost=Money("0.50"),
                ),
            ),
            instances=1,
        ),
        timedelta(hours=1),
    )
    lines = report.splitlines()
    assert lines[1] == "=== JOB COMPLETE ==="
    begin = lines.index("Attempts: 112")
    assert lines[begin:-2] == [
        "Attempts: 112",
        "  Retried: 8",
        "  Interrupted with their instance: 4",
        "Events ignored: 3 duplicate, 1 late",
        "",
        "Exceptions summary:",
        "      7: ValueError: a",
        "      1: KeyError: b",
        "         and 3 other kinds",
        "",
        "Cost: $0.50 for 1 instance",
        "  n2 (spot): 1 instance, 2h 30m 0s, $0.50",
        "  Per completed task: $0.005000",
        "",
        "Spot terminations: 1 host",
    ]


def test_render_final_report_without_completed_tasks():
    report = render_final_report(statistics_of(a_summary(elapsed=None, exited=2, dead=1, queued=4)), timedelta(0))
    assert report.splitlines()[4:-2] == [
        "Total tasks: 7",
        "  Completed: 0",
        "  Queued: 4",
        "  Exited: 2",
        "  Dead: 1",
        "",
        "Elapsed time: 0s",
        "",
        "Spot terminations: 0 hosts",
    ]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0s"),
        (59.6, "1m 0s"),
        (507, "8m 27s"),
        (3600, "1h 0m 0s"),
        (180185, "2d 2h 3m 5s"),
        (-4, "0s"),
    ],
)
def test_format_duration_starts_with_the_largest_unit(seconds, expected):
    assert format_duration(timedelta(seconds=seconds)) == expected


def test_render_instance_table():
    instances = [
        an_instance("us-central1-f"),
        an_instance("us-central1-c"),
        an_instance("us-central1-f"),
        an_instance("us-central1-f"),
        an_instance("us-central1-c"),
        an_instance("us-central1-c", ended_at=START),
    ]
    assert render_instance_table(instances).splitlines() == [
        "Running instance summary:",
        "  State       Instance Type             Boot Disk    vCPUs  Zone             Count  Total Price",
        "  ---------------------------------------------------------------------------------------------",
        "  running     e2-standard-8             pd-standard      8  us-central1-c        2        $0.54",
        "  running     e2-standard-8             pd-standard      8  us-central1-f        3        $0.81",
        "  ---------------------------------------------------------------------------------------------",
        "  Total running/starting:                               40 (weighted)            5        $1.34",
    ]


def test_render_instance_table_excludes_stopping_instances_from_the_total():
    lines = render_instance_table(
        [an_instance(state=None, instance_id=None), an_instance(state=InstanceState.STOPPING)]
    ).splitlines()
    assert [line.split()[0] for line in lines[3:5]] == ["starting", "stopping"]
    assert lines[-1].split() == ["Total", "running/starting:", "8", "(weighted)", "1", "$0.27"]


def test_render_instance_table_widens_columns_for_long_names():
    lines = render_instance_table([an_instance(instance_type="a-type-with-a-very-long-name-indeed")]).splitlines()
    assert "a-type-with-a-very-long-name-indeed" in lines[3]
    assert len({len(line) for line in lines[1:]}) == 1


def test_render_instance_table_without_instances():
    assert render_instance_table([an_instance(ended_at=START)]) == "No running instances found"


def test_render_selected_offer():
    ranking = Ranking(offers=(an_offer("us-central1-c"), an_offer("us-central1-f")), rejected=())
    assert render_selected_offer(ranking, now=START + timedelta(hours=3)).splitlines() == [
        "|| Selected instance type: e2-standard-8 (pd-standard) in us-central1-* at $0.268590/hour",
        "||   8 vCPUs, 32.0 GB RAM, no local SSD",
        "|| Derived boot disk size: 10.0 GB",
        "|| Derived number of tasks per instance: 8",
        "|| Price as of 2025-06-11 15:00 UTC (3h 0m 0s old)",
    ]


def test_render_selected_offer_in_one_zone():
    offers = (an_offer("us-central1-c", local_ssd_gb=375, gpu_count=2, gpu_type="L4"), an_offer("us-central1-f"))
    lines = render_selected_offer(Ranking(offers=offers[:1], rejected=())).splitlines()
    assert " in us-central1-c at " in lines[0]
    assert lines[1] == "||   8 vCPUs, 32.0 GB RAM, 375.0 GB local SSD, 2 L4 GPU"
    assert render_selected_offer(Ranking(offers=(), rejected=())) == ""


def configuration_lines(constraints: Constraints, limits: Limits, script: str | None = "a\n  b\n") -> list[str]:
    return render_job_configuration(
        provider="GCP",
        job_id="sums",
        queue_name="sums",
        region="us-central1",
        zone=None,
        constraints=constraints,
        limits=limits,
        scaling_check_interval=60,
        instance_termination_delay=60.0,
        max_runtime=10,
        max_parallel_instance_creations=10,
        image=None,
        startup_script=script,
    ).splitlines()


def test_render_job_configuration():
    lines = configuration_lines(
        Constraints(min_cpu=8, max_cpu=8, min_memory_per_cpu=2), Limits(min_instances=1, max_instances=5)
    )
    known = [
        "Provider configuration:",
        "  Provider: GCP",
        "  Region: us-central1",
        "  Zone: None",
        "  Job ID: sums",
        "  Queue: sums",
        "Instance type selection constraints:",
        "  Instance types: None",
        "  CPUs: 8 to 8",
        "  Memory: None to None GB",
        "  Memory per CPU: 2.0 to None GB",
        "  Boot disk types: None",
        "  Boot disk total size: 10.0 GB",
        "  Boot disk base size: 0.0 GB",
        "  Boot disk per CPU: None GB",
        "  Boot disk per task: None GB",
        "  Local SSD: None to None GB",
        "  Local SSD per CPU: None to None GB",
        "  Local SSD per task: None to None GB",
        "Number of instances constraints:",
        "  # Instances: 1 to 5",
        "  Total CPUs: None to None",
        "  CPUs per task: 1.0",
        "    Tasks per instance: None to None",
        "    Simultaneous tasks: None to None",
        "  Total price per hour: None to $10.00",
        "  Pricing: On-demand instances",
        "Miscellaneous:",
        "  Scaling check interval: 60 seconds",
        "  Instance termination delay: 60 seconds",
        "  Max runtime: 10 seconds",
        "  Max parallel instance creations: 10",
        "  Image: None",
        "  Startup script:",
        "    a",
        "      b",
    ]
    assert [line for line in lines if line in known] == known


def test_render_job_configuration_for_spot_without_a_script():
    lines = configuration_lines(Constraints(provisioning_model=ProvisioningModel.SPOT), Limits(), script=None)
    assert "  Pricing: Spot instances" in lines
    assert lines[-1] == "  Startup script: None"


def test_status_dict_is_json():
    summary = a_summary(completed=100, queued=100)
    going = throughput(summary, START + timedelta(hours=1))
    status = status_dict(
        summary, instances=[an_instance(), an_instance(ended_at=START)], pace=going, cost=Money("1.00")
    )
    again = json.loads(json.dumps(status))
    assert again == status
    assert (again["total"], again["finished"], again["remaining"]) == (200, False, 100)
    assert (again["counts"]["completed"], again["failures"]) == (100, 0)
    assert (again["instances"], again["price_per_hour_usd"]) == (1, "0.26859")
    assert Money(again["expected_cost_usd"]) == Money("1.26859")
    assert again["timing"]["expected_end"] == "2025-06-11T17:00:00+00:00"


def test_render_instance_table_shows_why_instances_are_pending():
    pending = {"state": InstanceState.PENDING, "reason": "Resources"}
    waiting = [attrs.evolve(an_instance("main"), **pending) for _ in range(2)]
    lines = render_instance_table([*waiting, an_instance("main")]).splitlines()
    assert lines[3].split()[:2] == ["pending", "(Resources)"]
    assert lines[-1].split()[-2:] == ["1", "$0.27"]
    assert render_pending([*waiting, an_instance("main")]) == "Pending: 2 instances (Resources)"
    assert render_pending([an_instance("main")]) == ""
