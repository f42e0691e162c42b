"""The webhook over a real connection on loopback: it delivers, tries again, gives up, and keeps its secret."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from webhook_server import SECRET, WebhookServer

from cloud_tasks.builtin.sink_settings import WebhookSettings
from cloud_tasks.builtin.webhook import Delivery, WebhookSink
from cloud_tasks.builtin.webhook_address import check_address, find_address
from cloud_tasks.errors import InputError
from cloud_tasks.model import JobPhase, Money
from cloud_tasks.plugin import EventSinkContext
from cloud_tasks.testing import eventually
from cloud_tasks.testing.event_sink import make_event, make_progress


@pytest.fixture
def server() -> Iterator[WebhookServer]:
    with WebhookServer() as server:
        yield server


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


def sink_of(server: WebhookServer, **settings: Any) -> WebhookSink:
    return WebhookSink(WebhookSettings(url=server.address, **settings), EventSinkContext(job_id="sums"))


def test_the_end_of_a_run_is_posted_as_chats_take_it(server: WebhookServer) -> None:
    sink = sink_of(server)
    sink.progress(make_progress(JobPhase.RUNNING))
    sink.progress(make_progress(JobPhase.ABORTED, finished=50, reason="<no> offers"))
    sink.close()
    sink.close()
    (message,) = server.taken
    text = "Job sums: it was given up (&lt;no&gt; offers): 50 of 100 tasks have ended; it took 0:00:50 and cost $0.00"
    assert message == {"text": text}


def test_field_and_template_are_the_users(server: WebhookServer) -> None:
    sink = sink_of(server, field="content", template="$kind <$finished>")
    sink.progress(make_progress(JobPhase.COMPLETE, finished=100))
    sink.close()
    assert server.taken == [{"content": "finish <100>"}]


def test_failures_and_the_budget_are_told_as_they_come(server: WebhookServer) -> None:
    sink = sink_of(server, failure_sample=2, on_finish=False)
    sink.progress(make_progress(JobPhase.RUNNING, max_total_cost=Money(1)))
    sink.write([make_event(1), make_event(2)])
    sink.progress(make_progress(JobPhase.RUNNING, finished=2, max_total_cost=Money(1), cost=Money("0.6")))
    sink.progress(make_progress(JobPhase.COMPLETE, finished=100, max_total_cost=Money(1), cost=Money("0.6")))
    sink.close()
    assert server.texts == [
        "Job sums: 50% of the budget is spent: $0.60 of $1.00; 2 of 100 tasks have ended",
    ]


def delivery_to(server: WebhookServer, *, patience: float = 20.0) -> Delivery:
    return Delivery(server.address, patience=patience, first_pause=0.01)


@pytest.mark.parametrize("answers", [(500, 503), (429, 408), ((429, 0),)])
def test_what_may_work_later_is_tried_again(answers: tuple[int | tuple[int, int], ...]) -> None:
    with WebhookServer(answers) as server:
        delivery = delivery_to(server)
        delivery.send({"text": "one"})
        delivery.send({"text": "two"})
        delivery.close()
    assert server.texts == ["one", "two"]
    assert (server.asked, delivery.undelivered) == (len(answers) + 2, 0)


@pytest.mark.parametrize("answer", [400, 403, 404, 410, 302, 307])
def test_what_will_never_work_is_given_up_and_said_without_the_address(answer: int, logged: list[Any]) -> None:
    with WebhookServer((answer,)) as server:
        delivery = delivery_to(server)
        delivery.send({"text": "one"})
        eventually(lambda: server.asked == 1 and delivery.undelivered == 1)
        delivery.send({"text": "two"})
        delivery.close()
    assert (server.texts, server.asked) == (["two"], 2)
    assert f"A message to the webhook was given up: HTTP {answer}" in [line["event"] for line in logged]
    assert "The webhook did not get 1 message" in str(logged)
    assert "SECRET" not in str(logged)


def test_a_server_that_is_away_is_tried_again_and_counted_at_the_end(logged: list[Any]) -> None:
    with WebhookServer() as server:
        address = server.address
    delivery = Delivery(address, patience=0.2, first_pause=0.01)
    delivery.send({"text": "one"})
    delivery.close()
    assert delivery.undelivered == 1
    (line,) = [line["event"] for line in logged if line["log_level"] == "warning"]
    assert line == "The webhook did not get 1 message (Connection refused)"
    assert "SECRET" not in str(logged)


def test_a_server_that_does_not_answer_holds_up_neither_the_job_nor_the_end(server: WebhookServer) -> None:
    server.hold.clear()
    sink = sink_of(server, failure_sample=1, failure_rate=0.5, patience=0.1)
    for number in range(1000):
        sink.write([make_event(number)])
        sink.progress(make_progress(JobPhase.RUNNING))
    for _ in range(500):
        sink.progress(make_progress(JobPhase.COMPLETE))
    sink.flush()
    sink.close()
    assert sink._delivery.undelivered == 500


def test_who_begins_to_close_has_what_waits_tried_at_once() -> None:
    with WebhookServer((500,)) as server:
        delivery = Delivery(server.address, patience=20.0, first_pause=3600.0)
        delivery.send({"text": "one"})
        eventually(lambda: server.asked == 1)
        delivery.close()
        assert (server.texts, delivery.undelivered) == (["one"], 0)


def test_nothing_to_say_starts_no_thread_and_asks_nobody(server: WebhookServer) -> None:
    before = threading.active_count()
    sink = sink_of(server)
    sink.write([make_event(1)])
    assert threading.active_count() == before
    sink.close()
    assert server.asked == 0


# The secret


def test_the_address_may_be_in_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    file = tmp_path / "webhook"
    file.write_text("https://hooks.example.com/secret\n")
    file.chmod(0o600)
    assert find_address(WebhookSettings(url_file=file)) == "https://hooks.example.com/secret"
    assert find_address(WebhookSettings(url_file=file, url="http://a/b")) == "http://a/b"


Spoil = Callable[[Path], object]


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda file: file.chmod(0o640), "may be read by others than you; chmod 600"),
        (lambda file: file.chmod(0o604), "may be read by others than you; chmod 600"),
        (lambda file: file.unlink(), "cannot be read: No such file"),
        (lambda file: file.write_text(SECRET), "what is in it is no address that begins with https://"),
        (lambda file: file.write_text(""), "what is in it is no address"),
    ],
)
def test_another_file_is_refused_and_not_quoted(tmp_path: Path, spoil: Spoil, complaint: str) -> None:
    file = tmp_path / "webhook"
    file.write_text(f"https://hooks.example.com/{SECRET}")
    file.chmod(0o600)
    spoil(file)
    with pytest.raises(InputError, match=complaint) as raised:
        find_address(WebhookSettings(url_file=file))
    assert "SECRET" not in str(raised.value)


def test_no_address_is_said_with_the_two_ways_to_give_it() -> None:
    with pytest.raises(InputError, match=r"set CLOUD_TASKS_WEBHOOK_URL, or .* webhook\.url_file"):
        find_address(WebhookSettings())


@pytest.mark.parametrize(
    "text", [SECRET, f"ftp://a/{SECRET}", f"https:///{SECRET}", f"https://a/{SECRET} x", f"https://a:xx/{SECRET}", ""]
)
def test_what_is_no_address_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(is no address|holds characters)") as raised:
        check_address(text)
    assert "SECRET" not in str(raised.value)


def test_the_settings_do_not_show_it() -> None:
    assert "SECRET" not in repr(WebhookSettings(url=f"https://hooks.example.com/{SECRET}"))
