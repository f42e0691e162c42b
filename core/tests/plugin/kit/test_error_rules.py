"""Invariants of the table of errors."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_tasks.errors import (
    CredentialsError,
    LaunchFailedError,
    LaunchRefusedError,
    NotFoundError,
    ProviderError,
    RefusalScope,
)
from cloud_tasks.plugin.kit import ErrorKind, ErrorRule, Problem, judge, matching_rule, refused, translate_errors

HOUR = timedelta(hours=1)
RULES = (
    refused("NoCapacity.*", RefusalScope.ZONE, HOUR, hint="wait"),
    refused("Quota", RefusalScope.ACCOUNT, HOUR, needs_action=True),
    ErrorRule(kind=ErrorKind.CREDENTIALS, code="Denied", message="token .*expired", hint="log in"),
    ErrorRule(kind=ErrorKind.PERMANENT, code="Denied", hint="ask for the role"),
    ErrorRule(kind=ErrorKind.NOT_FOUND, code="Missing|Gone"),
    ErrorRule(kind=ErrorKind.FAILED, code="BadOptions"),
    ErrorRule(kind=ErrorKind.TRANSIENT, code="Busy"),
)


@pytest.mark.parametrize(
    ("problem", "expected", "transient", "hint"),
    [
        (Problem(code="NoCapacityInZone"), LaunchRefusedError, True, "wait"),
        (Problem(code="Denied", message="The token X\nExpired."), CredentialsError, False, "log in"),
        (Problem(code="Denied", message="no role"), ProviderError, False, "ask for the role"),
        (Problem(code="gone"), NotFoundError, False, ""),
        (Problem(code="BadOptions"), LaunchFailedError, False, ""),
        (Problem(code="Busy"), ProviderError, True, ""),
        (Problem(code="NotBusy"), ProviderError, False, ""),
        (Problem(code="New", status=503), ProviderError, True, ""),
        (Problem(code="New", status=429), ProviderError, True, ""),
        (Problem(code="New", status=403), ProviderError, False, ""),
        (Problem(code="Denied", status=503), ProviderError, False, "ask for the role"),
        (Problem(code="Sub", also=("Busy", "object")), ProviderError, True, ""),
    ],
)
def test_judge_returns_the_error_of_the_first_rule(
    problem: Problem, expected: type[ProviderError], transient: bool, hint: str
) -> None:
    error = judge("launching small", problem, RULES)
    assert (type(error), error.transient, error.hint) == (expected, transient, hint)


def test_refusal_has_scope_time_reason_and_action() -> None:
    error = judge("launching small", Problem(code="NoCapacity1", message="None left."), RULES)
    assert isinstance(error, LaunchRefusedError)
    assert (error.scope, error.retry_after, error.reason) == (RefusalScope.ZONE, HOUR, "NoCapacity1")
    assert not error.needs_action
    assert error.message == "launching small: NoCapacity1: None left"
    quota = judge("launching small", Problem(code="Quota"), RULES)
    assert isinstance(quota, LaunchRefusedError)
    assert quota.needs_action


def test_default_is_for_permanent_errors_without_a_rule() -> None:
    default = refused(".*", RefusalScope.INSTANCE_TYPE, HOUR)
    assert isinstance(judge("a", Problem(code="New", status=400), RULES, default=default), LaunchRefusedError)
    assert type(judge("a", Problem(code="New", status=500), RULES, default=default)) is ProviderError
    assert type(judge("a", Problem(code="Denied"), RULES, default=default)) is ProviderError


@given(st.text(max_size=50), st.text(max_size=2000), st.integers(0, 599))
def test_judge_never_refuses_what_no_rule_knows(code: str, message: str, status: int) -> None:
    error = judge("launching small", Problem(code=code, message=message, status=status), ())
    assert type(error) is ProviderError
    assert error.message.startswith("launching small: ")
    assert len(error.message) < 1200


def test_message_is_one_line() -> None:
    assert Problem(code="E", message="first\n  second.\r\n").text == "E: first second"
    assert Problem(code="E", message=" \n").text == "E"


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": ErrorKind.REFUSED},
        {"kind": ErrorKind.REFUSED, "scope": RefusalScope.ZONE},
        {"kind": ErrorKind.TRANSIENT, "retry_after": HOUR},
        {"kind": ErrorKind.PERMANENT, "scope": RefusalScope.ZONE, "retry_after": HOUR},
    ],
)
def test_rule_has_scope_and_time_for_a_refusal_only(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="belong to a refusal"):
        ErrorRule(**fields)  # type: ignore[arg-type]


def test_rule_with_an_invalid_pattern_is_refused() -> None:
    with pytest.raises(Exception, match="unterminated"):
        ErrorRule(kind=ErrorKind.TRANSIENT, code="(")


def test_matching_rule_is_none_without_one() -> None:
    assert matching_rule(Problem(code="New"), RULES) is None
    assert matching_rule(Problem(code="Busy"), RULES) is RULES[-1]


class LibraryError(Exception):
    pass


class BusyError(LibraryError):
    pass


def problem_of(error: Exception) -> Problem | None:
    return Problem.of_exception(error) if isinstance(error, LibraryError) else None


def test_translate_errors_matches_base_classes_and_keeps_the_cause() -> None:
    rules = (ErrorRule(kind=ErrorKind.TRANSIENT, code="BusyError"), ErrorRule(kind=ErrorKind.NOT_FOUND))
    with (
        pytest.raises(ProviderError, match="reading: BusyError: full") as caught,
        translate_errors("reading", problem_of, rules),
    ):
        raise BusyError("full.")
    assert caught.value.transient
    assert isinstance(caught.value.__cause__, BusyError)
    with pytest.raises(NotFoundError), translate_errors("reading", problem_of, rules):
        raise LibraryError


def test_translate_errors_leaves_other_exceptions() -> None:
    with pytest.raises(KeyError), translate_errors("reading", problem_of):
        raise KeyError
    with pytest.raises(NotFoundError, match="own"), translate_errors("reading", problem_of):
        raise NotFoundError("own")
