"""Contracts fail for faulty backends, in the test that names the fault."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from cloud_tasks.testing import (
    ComputeContract,
    Contract,
    EventSinkContract,
    InstanceSideContract,
    PricingContract,
    QueueContract,
    TaskSourceContract,
)

WRONG = {
    "ForgetsTheQueue": "missing_queue_raises_not_found",
    "CreateEmptiesTheQueue": "create_is_idempotent",
    "DeleteKeepsTheMessages": "delete_is_idempotent delete_and_create_start_with_an_empty_queue",
    "PurgeSparesLeasedMessages": "purge_removes_visible_and_leased_messages",
    "ForgetsWhatOthersSent": "send_outlives_its_object receive_returns_a_message_sent_while_waiting",
    "IgnoresItsName": "queues_of_different_names_are_separate",
    "ReadsBodiesAsText": "send_keeps_the_body_unchanged",
    "SendsOneBatchOnly": "send_of_more_than_a_batch_is_complete",
    "CutsLongMessages": "send_keeps_bodies_of_maximum_size",
    "OneTooLargeMessageStopsAll": "send_reports_an_oversized_message_only",
    "CannotDoNothing": "calls_with_empty_arguments_do_nothing",
    "IgnoresDelays": "send_with_a_delay_is_not_early_if_supported release_with_a_delay_is_not_early_if_supported",
    "BringsMoreThanAsked": "receive_returns_at_most_max_messages",
    "InventsMessages": "receive_from_an_empty_queue_returns_nothing",
    "PreventsQueuesThatWork": "check_prevents_no_run_on_an_account_that_works",
    "LooksOnlyWhenAsked": "receive_returns_a_message_sent_while_waiting",
    "NeverLeases": "receive_never_leases_a_message_twice lease_hides_a_message_until_it_expires",
    "LeasesNeverEnd": "lease_hides_a_message_until_it_expires",
    "RemovesOnReceive": "lease_hides_a_message_until_it_expires",
    "CountsNoDeliveries": "delivery_count_is_reported_if_supported",
    "AckDoesNothing": "ack_removes_a_message_for_good calls_can_be_repeated_after_a_lost_answer",
    "LeaseNamesTheMessage": "expired_lease_is_reported_and_has_no_effect",
    "TellsAllLeasesLost": "lost_leases_are_reported_among_many",
    "ExtendDoesNothing": "extend_prolongs_a_lease",
    "ExtendIsForEver": "extend_prolongs_a_lease",
    "ReleaseDoesNothing": "release_makes_a_message_visible_at_once calls_can_be_repeated_after_throttling",
    "DepthIsAGuess": "depth_follows_messages_if_exact",
    "PreventsLaunchesThatWork": "check_prevents_no_run_on_an_account_that_works",
    "LaunchesEveryTime": "launch_repeated_with_one_token_starts_one_instance"
    " launch_concurrent_with_one_token_starts_one_instance calls_can_be_repeated_after_a_lost_answer",
    "ChecksTooStrictly": "check_launch_accepts_a_request_that_can_be_launched",
    "ForgetsLabels": "launch_is_listed_as_requested",
    "AlwaysOnDemand": "launch_of_a_spot_instance_is_listed_as_spot",
    "RefusesWithoutScope": "launch_refusal_has_scope_and_retry_time",
    "IgnoresLifetimes": "instance_terminates_after_max_lifetime_if_supported",
    "ListsOnePage": "instances_of_a_long_listing_are_complete",
    "ListsEveryJob": "instances_are_those_of_the_job_or_of_all_jobs",
    "ListsForeignInstances": "instances_exclude_unmanaged_ones instances_of_a_job_without_any_are_empty",
    "KnowsOnlyWhatItLaunched": "instances_are_found_by_another_object",
    "TerminatesNothing": "terminate_is_complete_and_idempotent",
    "TerminatesEverything": "terminate_affects_the_given_instances_only",
    "TerminatesOnce": "terminate_is_complete_and_idempotent terminate_ignores_unknown_instances",
    "ClaimsForeignInstances": "instances_include_unmanaged_ones_on_request",
    "OverdrawnHeadroom": "headroom_has_a_number_and_its_limit",
    "EndlessConsole": "console_log_has_the_output_of_the_script",
    "AnswersInItsOwnOrder": "price_answers_each_request_in_order",
    "LeavesOutTheUnpriced": "price_reports_unpriced_requests_with_a_reason",
    "OneUnknownStopsAll": "price_reports_unpriced_requests_with_a_reason",
    "PricesBelowZero": "price_has_no_negative_part",
    "PricesFromNowhen": "price_has_amount_and_time",
    "PricesByTheMoment": "price_is_the_same_for_the_same_request",
    "CloseLosesTheBuffer": "close_flushes context_exit_flushes",
    "FlushDoesNothing": "flush_delivers_events_in_order",
    "NewestFirst": "flush_delivers_events_in_order",
    "DropsDetails": "write_keeps_every_field_of_an_event",
    "KeepsTheLastThousand": "write_of_a_large_batch_is_complete",
    "FailsOnNothing": "write_of_an_empty_batch_does_nothing",
    "KeepsTwice": "write_is_idempotent_if_declared",
    "KnowsTasksOnly": "write_accepts_every_event_type",
    "RefusesWhatItKnows": "write_accepts_a_repeated_batch",
    "KnowsGoodEndsOnly": "progress_accepts_every_job_phase",
    "AcceptsAnything": "broken_input_raises_input_error",
    "RunsOut": "iteration_repeats_the_same_tasks iteration_restarts_after_a_partial_one",
    "RepeatsIds": "tasks_have_unique_ids_and_named_data tasks_equal_the_expected_ones_in_order",
    "Shuffles": "open_repeats_the_same_tasks",
    "Miscounts": "expected_length_is_correct_if_known",
    # Queues that lose tasks
    "HonoursLeasesOfAFormerQueue": "lease_of_another_object_ends_with_delete_and_purge",
    "TrustsItsOwnTable": "lease_ends_for_its_holder_when_another_object_receives_the_message"
    " lost_leases_are_reported_among_many",
    "TakesReleasedLeases": "lost_leases_are_reported_among_many",
    "DropsAfterTenDeliveries": "message_is_delivered_until_it_is_acked",
    "LeasesTwentyMessages": "receive_leases_many_messages_at_the_same_time",
    "LeasesAThousandMessages": "receive_leases_many_messages_at_the_same_time",
    "KeepsAThousandMessages": "receive_leases_many_messages_at_the_same_time",
    "SendIsUnconfirmed": "send_to_a_missing_queue_reports_no_success"
    " unreachable_server_raises_transient_provider_errors",
    "SendsOnClose": "send_is_confirmed_when_it_returns",
    "AckIsUnconfirmed": "lease_of_a_deleted_queue_reports_no_success",
    "ReleaseIsUnconfirmed": "lease_of_a_deleted_queue_reports_no_success",
    "ExtendIsUnconfirmed": "lease_of_a_deleted_queue_reports_no_success",
    "AcksOnClose": "ack_removes_a_message_for_good",
    "KeepsMessagesInMemory": "messages_and_acks_outlive_a_restart",
    "KeepsAcksInMemory": "messages_and_acks_outlive_a_restart",
    "CountsAckedMessagesAfterARestart": "messages_and_acks_outlive_a_restart",
    "RaisesErrorsOfItsLibrary": "unreachable_server_raises_transient_provider_errors",
    "GivesUpOnAnOutage": "unreachable_server_raises_transient_provider_errors",
    "IsEmptyDuringAnOutage": "unreachable_server_raises_transient_provider_errors",
    "IsMissingDuringAnOutage": "unreachable_server_raises_transient_provider_errors",
    "IsNotFoundDuringAnOutage": "unreachable_server_raises_transient_provider_errors",
    "RetriesRefusedCredentials": "refused_credentials_raise_permanent_provider_errors",
    "RefusesWithoutAHint": "refused_credentials_raise_permanent_provider_errors",
    "IsReachedByAWord": "reach_is_of_the_documented_values",
    "KeepsMessagesInItsProcess": "messages_are_exchanged_with_another_process_if_installed",
    "CountsReleasedMessagesAsLeased": "depth_follows_messages_if_exact",
    "CountsExpiredLeasesAsLeased": "depth_follows_messages_if_exact",
    "CountsLeasesOfItsOwn": "depth_follows_messages_if_exact",
    # Compute backends that cost money
    "ListsNoClientToken": "launch_is_listed_as_requested",
    "ListsAnotherDisk": "launch_is_listed_as_requested",
    "ListsTerminatedInstances": "terminate_is_complete_and_idempotent",
    "ListsImagesTwice": "images_have_unique_names",
    "TerminatesUnmanagedInstances": "terminate_never_ends_an_unmanaged_instance",
    "LaunchesOncePerObject": "launch_by_two_processes_with_one_token_starts_one_instance",
    "LaunchesOncePerProcess": "launch_by_another_process_with_one_token_starts_no_other_instance_if_installed",
    "RunsEveryScriptWithTheShell": "script_runs_with_its_first_line_and_the_documented_variables",
    "LosesTheSubmitFolder": "script_runs_with_its_first_line_and_the_documented_variables",
    "PendingAgain": "states_and_times_of_a_starting_instance_are_consistent",
    "PendingWithAStart": "launch_is_listed_as_requested",
    "StartsWithEachListing": "states_and_times_of_a_starting_instance_are_consistent",
    "CreatedWithEachListing": "states_and_times_of_a_starting_instance_are_consistent"
    " times_of_a_terminated_instance_are_consistent",
    "StartsBeforeItsCreation": "launch_is_listed_as_requested",
    "StartsBeforeItsRequest": "start_is_not_before_its_request_nor_in_the_future",
    "StartsInTheFuture": "start_is_not_before_its_request_nor_in_the_future",
    "EndsBeforeItsStart": "times_of_a_terminated_instance_are_consistent",
    "EndsWhileItRuns": "launch_is_listed_as_requested",
    "ForgetsItsStart": "times_of_a_terminated_instance_are_consistent",
    "StartsWithoutAZone": "launch_is_listed_as_requested",
    "ReasonsOfManyLines": "launch_is_listed_as_requested",
    "RefusesPendingInstances": "instances_of_a_long_listing_are_complete",
    "ShowsTheBeginningOfAConsole": "console_log_has_the_end_of_a_long_output",
    "ShowsTheWholeConsole": "console_log_has_the_end_of_a_long_output",
    "ShowsNoConsole": "console_log_has_the_output_of_the_script",
    "OpensUnknownConsoles": "console_log_of_an_unknown_instance_raises_no_other_error",
    "RunsElsewhere": "location_matches_the_files_of_the_controller",
    "SharesFilesOverTheNetwork": "location_matches_the_files_of_the_controller",
    "RaisesErrorsOfItsSdk": "unreachable_provider_raises_transient_provider_errors",
    "CallsAnOutagePermanent": "unreachable_provider_raises_transient_provider_errors",
    "ListsNothingDuringAnOutage": "unreachable_provider_raises_transient_provider_errors",
    "TerminatesNothingDuringAnOutage": "unreachable_provider_raises_transient_provider_errors",
    "RetriesRefusedKeys": "refused_credentials_raise_permanent_provider_errors",
    "DeliversNoSecrets": "secrets_are_delivered_to_the_script_alone_if_supported",
    "WritesSecretsIntoTheScript": "secrets_are_delivered_to_the_script_alone_if_supported",
    "QuotesSecrets": "secrets_are_delivered_to_the_script_alone_if_supported",
    "ShowsSecretsInTheListing": "secrets_are_delivered_to_the_script_alone_if_supported",
    "InheritsTheController": "secrets_are_delivered_to_the_script_alone_if_supported",
    # Instance sides
    "NamesItselfOtherwise": "identity_is_that_of_the_listing",
    "NamesAnotherType": "identity_is_that_of_the_listing",
    "NamesItselfAnew": "identity_is_the_same_for_each_call_and_object",
    "InventsAnIdentity": "identity_without_an_instance_raises_provider_error",
    "RaisesWithoutANotice": "termination_notice_is_none_without_one",
    "NeedsAnIdentityForNotices": "termination_notice_without_an_instance_raises_no_other_error",
    "AlwaysGivesNotice": "termination_notice_is_none_without_one",
    "MissesItsNotice": "termination_notice_is_returned_and_kept",
    "GivesNoticeOnce": "termination_notice_is_returned_and_kept",
    "GivesNoticeWithoutAReason": "termination_notice_is_returned_and_kept",
    "GivesNoticeWithoutAZone": "termination_notice_is_returned_and_kept",
    "ImportsTheSdk": "open_instance_imports_no_module_of_the_controller_if_installed",
    "AsksAllTheTime": "notice_interval_is_a_positive_time_or_none",
}
"""Faulty backends with the tests that must fail for each."""

NEVER_FAILED = {
    # Faults that a fake in memory cannot have.
    "test_queue_object_is_thread_safe",
    "test_regions_have_names_and_zones",
    "test_instance_types_are_described",
    "test_price_of_no_requests_is_empty",
}


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Return the failed tests by backend, from one run of the suite in a separate pytest."""
    results = tmp_path_factory.mktemp("broken") / "results.xml"
    suites = [str(path) for path in sorted(Path(__file__).parent.glob("broken*_suite.py"))]
    support = str(Path(__file__).parent.parent / "support")
    options = ["-q", "--import-mode=importlib", "-p", "no:cacheprovider", "-c", "/dev/null", "--junitxml", str(results)]
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *suites],
        env=os.environ | {"PYTHONPATH": support},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 1, finished.stdout + finished.stderr
    failed: dict[str, set[str]] = {}
    for case in ElementTree.parse(results).getroot().iter("testcase"):
        backend = case.attrib["classname"].rpartition(".Test")[2]
        entry = failed.setdefault(backend, set())
        if case.find("failure") is not None:
            entry.add(case.attrib["name"].partition("[")[0])
    return failed


@pytest.mark.parametrize("backend", WRONG)
def test_contract_fails_for_a_faulty_backend(failures: dict[str, set[str]], backend: str) -> None:
    assert {f"test_{name}" for name in WRONG[backend].split()} <= failures[backend]


def test_suite_has_every_faulty_backend(failures: dict[str, set[str]]) -> None:
    assert set(failures) == set(WRONG)


@pytest.mark.parametrize(
    "contract",
    [QueueContract, ComputeContract, InstanceSideContract, PricingContract, EventSinkContract, TaskSourceContract],
)
def test_contract_tests_can_all_fail(failures: dict[str, set[str]], contract: type[Contract]) -> None:
    failed = {name for names in failures.values() for name in names}
    assert contract.contract_tests - failed - NEVER_FAILED == set()
