"""Delivery over real connections on loopback: retries, limits, and the end of a run."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from webhook_server import SECRET, WebhookServer

from cloud_tasks.model import JobPhase, Money
from cloud_tasks.plugin import EventSinkContext
from cloud_tasks.testing import eventually
from cloud_tasks.testing.contracts.event_sink import make_event, make_progress
from cloud_tasks_notify.delivery import NotificationQueue
from cloud_tasks_notify.senders import Failure, make_sender
from cloud_tasks_notify.settings import NotifySettings
from cloud_tasks_notify.sink import NotificationSink

Address = Callable[[WebhookServer], str]


def webhook(server: WebhookServer) -> str:
    return server.address


def apprise_url(server: WebhookServer) -> str:
    """Return the Apprise URL of the server, with the text under the webhook's key."""
    parts = urlsplit(server.address)
    return f"json://{parts.netloc}{parts.path}?:message=text&:version=&:title=&:attachments=&:type="


both = pytest.mark.parametrize("address", [webhook, apprise_url], ids=["webhook", "apprise"])


def make_sink(server: WebhookServer, address: Address = webhook, **settings: Any) -> NotificationSink:
    return NotificationSink(NotifySettings(url=address(server), **settings), EventSinkContext(job_id="sums"))


def make_queue(address: str, *, patience: float = 20.0, first_backoff: float = 0.01) -> NotificationQueue:
    return NotificationQueue(make_sender(address, field="text"), patience=patience, first_backoff=first_backoff)


def test_end_of_a_run_is_posted_as_json_with_escaped_markup(server: WebhookServer) -> None:
    sink = make_sink(server)
    sink.progress(make_progress(JobPhase.RUNNING))
    sink.progress(make_progress(JobPhase.ABORTED, finished=50, reason="<no> offers"))
    sink.close()
    sink.close()
    text = "Job sums: aborted (&lt;no&gt; offers): 50 of 100 tasks finished in 0:00:50, total cost $0.00"
    assert server.taken == [{"text": text}]


def test_end_of_a_run_is_sent_to_a_service_of_apprise_unescaped(server: WebhookServer) -> None:
    sink = make_sink(server, apprise_url)
    sink.progress(make_progress(JobPhase.ABORTED, finished=50, reason="<no> offers & co"))
    sink.close()
    text = "Job sums: aborted (<no> offers & co): 50 of 100 tasks finished in 0:00:50, total cost $0.00"
    assert server.taken == [{"text": text}]


def test_field_and_template_are_configurable(server: WebhookServer) -> None:
    sink = make_sink(server, field="content", template="$kind <$finished>")
    sink.progress(make_progress(JobPhase.COMPLETE, finished=100))
    sink.close()
    assert server.taken == [{"content": "finish <100>"}]


@both
def test_budget_notification_is_sent_while_the_job_runs(server: WebhookServer, address: Address) -> None:
    sink = make_sink(server, address, failure_sample=2, on_finish=False)
    sink.progress(make_progress(JobPhase.RUNNING, max_total_cost=Money(1)))
    sink.write([make_event(1), make_event(2)])
    sink.progress(make_progress(JobPhase.RUNNING, finished=2, max_total_cost=Money(1), cost=Money("0.6")))
    sink.progress(make_progress(JobPhase.COMPLETE, finished=100, max_total_cost=Money(1), cost=Money("0.6")))
    sink.close()
    assert server.texts == ["Job sums: 50% of the budget is spent: $0.60 of $1.00; 2 of 100 tasks finished"]


@both
@pytest.mark.parametrize("answers", [(500, 503), (429, 408), ((429, 0),)])
def test_transient_failures_are_retried_in_order(address: Address, answers: tuple[int | tuple[int, int], ...]) -> None:
    with WebhookServer(answers) as server:
        queue = make_queue(address(server))
        queue.put("one")
        queue.put("two")
        queue.close()
    assert server.texts == ["one", "two"]
    assert (server.asked, queue.undelivered) == (len(answers) + 2, 0)


@both
@pytest.mark.parametrize("answer", [400, 403, 404, 410, 302, 307])
def test_permanent_failures_are_dropped_and_logged_without_the_url(
    address: Address, answer: int, logged: list[Any], root_log: io.StringIO
) -> None:
    with WebhookServer((answer,)) as server:
        queue = make_queue(address(server))
        queue.put("one")
        eventually(lambda: f"Notification dropped: HTTP {answer}" in [line["event"] for line in logged])
        queue.put("two")
        queue.close()
    assert (server.texts, server.asked) == (["two"], 2)
    assert f"1 notification was not delivered (HTTP {answer})" in [line["event"] for line in logged]
    assert "SECRET" not in str(logged) + root_log.getvalue()


@both
def test_unreachable_server_is_retried_and_counted_at_the_end(
    address: Address, logged: list[Any], root_log: io.StringIO
) -> None:
    with WebhookServer() as server:
        queue = make_queue(address(server), patience=0.5)
    queue.put("one")
    queue.close()
    assert queue.undelivered == 1
    (line,) = [line["event"] for line in logged if line["log_level"] == "warning"]
    reason = "Connection refused" if address is webhook else "the service did not accept it"
    assert line == f"1 notification was not delivered ({reason})"
    assert "SECRET" not in str(logged) + root_log.getvalue()


@both
def test_server_that_never_answers_delays_neither_the_job_nor_its_end(server: WebhookServer, address: Address) -> None:
    server.hold.clear()
    sink = make_sink(server, address, failure_sample=1, failure_rate=0.5, patience=0.1)
    for number in range(1000):
        sink.write([make_event(number)])
        sink.progress(make_progress(JobPhase.RUNNING))
    for _ in range(500):
        sink.progress(make_progress(JobPhase.COMPLETE))
    sink.flush()
    sink.close()
    assert sink._queue.undelivered == 500
    # The exit of the process waits for threads that are not daemons.
    assert [each for each in threading.enumerate() if not each.daemon and each is not threading.main_thread()] == []


def test_close_retries_at_once(logged: list[Any]) -> None:
    with WebhookServer((500,)) as server:
        queue = make_queue(server.address, first_backoff=3600.0)
        queue.put("one")
        eventually(lambda: server.asked == 1)
        queue.close()
        assert (server.texts, queue.undelivered) == (["one"], 0)


def test_close_during_an_attempt_retries_at_once_when_the_attempt_fails(logged: list[Any]) -> None:
    closing, sent = threading.Event(), []

    def send(text: str) -> Failure | None:
        sent.append(text)
        if len(sent) > 1:
            return None
        assert closing.wait(30.0)
        return Failure(reason="HTTP 500", transient=True)

    queue = NotificationQueue(send, patience=20.0, first_backoff=3600.0)
    queue.put("one")
    eventually(lambda: sent == ["one"])
    closer = threading.Thread(target=queue.close)
    closer.start()
    eventually(queue._closing.is_set)
    closing.set()
    closer.join()
    assert (sent, queue.undelivered) == (["one", "one"], 0)


def test_exception_of_a_service_is_a_failure_with_its_type_only(logged: list[Any]) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError(SECRET)

    with WebhookServer() as server:
        from cloud_tasks_notify import senders
        from cloud_tasks_notify.address import load_service

        service = load_service(apprise_url(server))
        assert service is not None
        service.notify = broken  # type: ignore[method-assign]
        failure = senders._notify(service, "one")
    assert failure == senders.Failure(reason="RuntimeError", transient=True)


def test_queue_without_notifications_starts_no_thread(server: WebhookServer) -> None:
    before = threading.active_count()
    sink = make_sink(server)
    sink.write([make_event(1)])
    assert threading.active_count() == before
    sink.close()
    assert server.asked == 0


def test_sender_that_raises_stops_no_later_notification() -> None:
    sent: list[str] = []

    def send(text: str) -> Failure | None:
        if text == "bad":
            raise RuntimeError("planted")
        sent.append(text)
        return None

    notifications = NotificationQueue(send, patience=20.0, first_backoff=0.01)
    notifications.put("bad")
    notifications.put("good")
    notifications.close()
    assert (sent, notifications.undelivered) == (["good"], 1)
