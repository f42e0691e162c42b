"""The kit fails backends that are wrong, and in the test that names what is wrong with them."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from cloud_tasks.testing import (
    ComputeContract,
    Contract,
    EventSinkContract,
    PricingContract,
    QueueContract,
    TaskSourceContract,
)

WRONG = {
    "ForgetsTheQueue": "a_queue_that_does_not_exist_is_not_found",
    "CreateEmptiesTheQueue": "create_makes_the_queue_and_is_idempotent",
    "DeleteKeepsTheMessages": "delete_removes_the_queue_and_is_idempotent a_queue_can_be_deleted_and_created_at_once",
    "PurgeSparesLeasedMessages": "purge_removes_messages_that_wait_and_messages_that_are_leased",
    "ForgetsWhatOthersSent": "messages_outlive_the_object_that_sent_them"
    " a_waiting_consumer_gets_a_message_that_is_sent_meanwhile",
    "IgnoresItsName": "queues_of_different_names_do_not_mix",
    "ReadsBodiesAsText": "a_message_arrives_as_it_was_sent",
    "SendsOneBatchOnly": "more_messages_than_a_batch_all_arrive",
    "CutsLongMessages": "the_largest_messages_arrive_whole_also_together",
    "OneTooLargeMessageStopsAll": "a_message_that_is_too_large_fails_alone_and_for_good",
    "CannotDoNothing": "nothing_to_do_is_no_error",
    "IgnoresDelays": "a_delayed_message_does_not_come_early_where_delays_are_supported"
    " a_message_released_with_a_delay_does_not_come_early_where_delays_are_supported",
    "BringsMoreThanAsked": "receive_brings_no_more_than_asked",
    "InventsMessages": "an_empty_queue_gives_nothing",
    "LooksOnlyWhenAsked": "a_waiting_consumer_gets_a_message_that_is_sent_meanwhile",
    "NeverLeases": "consumers_never_hold_the_same_message"
    " a_leased_message_is_hidden_and_comes_back_when_the_lease_ends",
    "LeasesNeverEnd": "a_leased_message_is_hidden_and_comes_back_when_the_lease_ends",
    "RemovesOnReceive": "a_leased_message_is_hidden_and_comes_back_when_the_lease_ends",
    "CountsNoDeliveries": "a_delivery_knows_its_number_where_the_traits_say_so",
    "AckDoesNothing": "an_acked_message_never_comes_back calls_that_took_effect_and_timed_out_may_be_repeated",
    "LeaseNamesTheMessage": "a_lease_that_was_lost_is_told_and_harms_nobody",
    "TellsAllLeasesLost": "of_many_leases_exactly_the_lost_ones_are_told",
    "ExtendDoesNothing": "an_extended_lease_holds_and_then_ends",
    "ExtendIsForEver": "an_extended_lease_holds_and_then_ends",
    "ReleaseDoesNothing": "a_released_message_is_there_for_others_at_once"
    " a_throttled_call_had_no_effect_and_may_be_repeated",
    "DepthIsAGuess": "the_depth_follows_a_message_where_it_is_exact",
    "LaunchesEveryTime": "launching_twice_with_one_token_starts_one_instance"
    " concurrent_launches_with_one_token_start_one_instance calls_that_took_effect_and_timed_out_may_be_repeated",
    "ChecksTooStrictly": "check_launch_accepts_a_request_that_can_be_launched",
    "ForgetsLabels": "a_launched_instance_is_listed_as_it_was_asked_for",
    "AlwaysOnDemand": "a_spot_instance_is_listed_as_one_where_there_are_any",
    "RefusesWithoutScope": "refusals_say_what_to_avoid_and_for_how_long",
    "IgnoresLifetimes": "an_instance_ends_itself_after_its_lifetime_where_the_traits_say_so",
    "ListsOnePage": "a_long_listing_is_complete",
    "ListsEveryJob": "a_job_sees_its_own_instances_only_and_everything_when_asked",
    "ListsForeignInstances": "foreign_instances_are_never_listed a_job_without_instances_has_an_empty_listing",
    "KnowsOnlyWhatItLaunched": "instances_are_found_by_whoever_comes_later",
    "TerminatesNothing": "a_terminated_instance_is_gone_and_may_be_terminated_again",
    "TerminatesEverything": "terminate_ends_those_it_is_told_and_no_others",
    "TerminatesOnce": "a_terminated_instance_is_gone_and_may_be_terminated_again unknown_instances_are_no_error",
    "ClaimsForeignInstances": "foreign_instances_are_shown_on_request_as_nobodys",
    "OverdrawnHeadroom": "headroom_is_a_number_of_instances_and_what_limits_it",
    "EndlessConsole": "the_console_shows_what_the_script_printed",
    "AnswersInItsOwnOrder": "each_request_gets_its_own_answer_in_order",
    "LeavesOutTheUnpriced": "one_without_a_price_says_why_and_stops_no_other",
    "OneUnknownStopsAll": "one_without_a_price_says_why_and_stops_no_other",
    "PricesBelowZero": "the_parts_of_the_price_are_not_negative",
    "PricesFromNowhen": "prices_are_amounts_with_the_time_they_were_given",
    "PricesByTheMoment": "the_same_question_gets_the_same_price",
    "CloseLosesTheBuffer": "closing_flushes leaving_the_context_flushes",
    "FlushDoesNothing": "flushed_events_have_arrived_in_order",
    "NewestFirst": "flushed_events_have_arrived_in_order",
    "DropsDetails": "an_event_arrives_with_all_that_it_says",
    "KeepsTheLastThousand": "a_large_batch_arrives_whole",
    "FailsOnNothing": "an_empty_batch_is_nothing",
    "KeepsTwice": "an_event_is_kept_once_where_the_backend_says_so",
    "KnowsTasksOnly": "events_of_every_kind_are_taken",
    "RefusesWhatItKnows": "a_batch_that_is_given_again_is_taken",
    "KnowsGoodEndsOnly": "who_wants_to_know_how_the_job_stands_is_content_with_every_end",
    "AcceptsAnything": "broken_input_is_an_input_error",
    "RunsOut": "iterating_again_gives_the_same_tasks an_iteration_that_was_given_up_spoils_nothing",
    "RepeatsIds": "every_task_has_an_id_of_its_own_and_named_data the_tasks_are_those_expected_in_order",
    "Shuffles": "opening_again_gives_the_same_tasks",
    "Miscounts": "the_expected_length_is_right_where_it_is_known",
}
"""Each broken backend, with the tests that have to fail for it."""

NEVER_FAILED = {
    # Wrong in ways that a fake in memory cannot be without being absurd.
    "test_one_object_serves_several_threads",
    "test_regions_have_names_and_zones",
    "test_instance_types_are_described",
    "test_images_have_names_of_their_own",
    "test_nothing_asked_is_nothing_answered",
}


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The tests that failed, by backend: the suite of broken backends, run once in a pytest of its own."""
    results = tmp_path_factory.mktemp("broken") / "results.xml"
    suite = Path(__file__).with_name("broken_suite.py")
    options = ["-q", "--import-mode=importlib", "-p", "no:cacheprovider", "-c", "/dev/null", "--junitxml", str(results)]
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(suite)], capture_output=True, text=True, check=False
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
def test_a_broken_backend_fails_where_it_is_wrong(failures: dict[str, set[str]], backend: str) -> None:
    assert {f"test_{name}" for name in WRONG[backend].split()} <= failures[backend]


def test_every_broken_backend_was_expected_to_fail(failures: dict[str, set[str]]) -> None:
    assert set(failures) == set(WRONG)


@pytest.mark.parametrize(
    "contract", [QueueContract, ComputeContract, PricingContract, EventSinkContract, TaskSourceContract]
)
def test_every_test_of_a_contract_can_fail(failures: dict[str, set[str]], contract: type[Contract]) -> None:
    failed = {name for names in failures.values() for name in names}
    assert contract.contract_tests - failed - NEVER_FAILED == set()
