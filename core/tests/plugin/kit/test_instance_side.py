"""Invariants of the worker's side of an instance."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import InstanceIdentity, TerminationNotice
from cloud_tasks.plugin.kit import (
    MetadataError,
    MetadataService,
    PolledInstanceSide,
    json_object,
    notice_time,
    read_json_file,
)
from cloud_tasks.testing import eventually

NOTICE = TerminationNotice(at=None, reason="reclaimed")
IDENTITY = InstanceIdentity(instance_id="i-1", zone="north-1", instance_type="small")


class Side(PolledInstanceSide):
    def __init__(self, *answers: object, pause: float | None = None) -> None:
        super().__init__(pause=pause)
        self.answers = list(answers)
        self.reads = 0
        self.reading = threading.Event()
        self.thread = threading.main_thread()

    def _read_identity(self) -> InstanceIdentity:
        self.reads += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, InstanceIdentity)
        return answer

    def _read_notice(self) -> TerminationNotice | None:
        self.reads += 1
        self.thread = threading.current_thread()
        self.reading.set()
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            answer = answer()
        assert answer is None or isinstance(answer, TerminationNotice)
        return answer


def test_identity_is_read_again_after_a_failure_and_then_kept() -> None:
    side = Side(ProviderError("down"), IDENTITY)
    with pytest.raises(ProviderError, match="down"):
        side.identity()
    assert side.identity() is side.identity() is IDENTITY
    assert side.reads == 2


def test_notice_stays_once_it_was_received() -> None:
    side = Side(None, ProviderError("down"), NOTICE, ProviderError("down"))
    assert side.termination_notice() is None
    with pytest.raises(ProviderError, match="down"):
        side.termination_notice()
    assert side.termination_notice() is side.termination_notice() is NOTICE
    assert side.reads == 3


def test_notice_of_a_thread_needs_no_waiting_and_survives_any_answer() -> None:
    release = threading.Event()

    def slow() -> TerminationNotice:
        release.wait(20)
        return NOTICE

    side = Side(ProviderError("down"), ValueError("not expected"), slow, pause=0.001)
    assert side.termination_notice() is None
    assert side.termination_notice() is None
    release.set()
    eventually(lambda: side.termination_notice() is NOTICE, patience=timedelta(seconds=20))
    side.close()


def test_closed_side_stops_polling() -> None:
    side = Side(pause=0.001)
    side.termination_notice()
    assert side.reading.wait(20)
    side.close()
    side.thread.join(20)
    assert not side.thread.is_alive()
    closed = Side(pause=0.001)
    closed.close()
    assert closed.termination_notice() is None
    assert closed.reads == 0


class CrowdedSide(Side):
    """Has methods and attributes with names that a base could have, too."""

    _poll = None

    def __init__(self, *answers: object, pause: float | None = None) -> None:
        super().__init__(*answers, pause=pause)
        self._pause = self._identity = self._notice = self._thread = "own"


@pytest.mark.parametrize("pause", [None, 0.001])
def test_names_of_a_subclass_replace_none_of_the_base(pause: float | None) -> None:
    side = CrowdedSide(IDENTITY, NOTICE, pause=pause)
    assert side.identity() is side.identity() is IDENTITY
    eventually(lambda: side.termination_notice() is NOTICE)
    side.close()


@pytest.mark.parametrize("name", ["_closed", "_lock"])
def test_names_for_a_subclass_are_read_only(name: str) -> None:
    with pytest.raises(AttributeError, match=name):
        setattr(Side(), name, None)


class Handler(BaseHTTPRequestHandler):
    answer: Callable[[BaseHTTPRequestHandler], tuple[int, bytes]]

    def do_GET(self) -> None:
        status, body = type(self).answer(self)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_GET  # noqa: N815 - called by the base class

    def log_message(self, format: str, *arguments: object) -> None:
        """Print nothing."""


@pytest.fixture
def handler() -> type[Handler]:
    return type("Own", (Handler,), {})


@pytest.fixture
def service(handler: type[Handler]) -> Iterator[MetadataService]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield MetadataService(f"http://127.0.0.1:{server.server_port}/", headers={"X-Depot": "yes"})
    server.shutdown()
    thread.join()
    server.server_close()


def answering(handler: type[Handler], status: int, body: bytes = b"") -> None:
    handler.answer = staticmethod(lambda request: (status, body))  # type: ignore[assignment]


def test_request_sends_headers_and_returns_stripped_text(handler: type[Handler], service: MetadataService) -> None:
    seen: list[tuple[str, ...]] = []

    def answer(request: BaseHTTPRequestHandler) -> tuple[int, bytes]:
        seen.append((request.command, request.path, request.headers["X-Depot"], request.headers["X-Token"]))
        return 200, b" text\xff\n"

    handler.answer = staticmethod(answer)  # type: ignore[assignment]
    assert service.request("/a/b?c=1", method="PUT", headers={"X-Token": "t"}) == "text\ufffd"
    assert seen == [("PUT", "/a/b?c=1", "yes", "t")]


def test_get_of_a_missing_path_is_none(handler: type[Handler], service: MetadataService) -> None:
    answering(handler, 404)
    assert service.get("/spot") is None
    with pytest.raises(MetadataError, match="answered 404 for /spot") as caught:
        service.request("/spot?token=secret")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("status", "transient"), [(401, True), (403, False), (429, True), (500, True)])
def test_get_raises_other_answers(
    handler: type[Handler], service: MetadataService, status: int, transient: bool
) -> None:
    answering(handler, status)
    with pytest.raises(MetadataError) as caught:
        service.get("/id")
    assert (caught.value.status, caught.value.transient) == (status, transient)


def test_request_has_a_time_limit(handler: type[Handler], service: MetadataService) -> None:
    release = threading.Event()

    def hang(request: BaseHTTPRequestHandler) -> tuple[int, bytes]:
        release.wait(20)
        return 200, b""

    handler.answer = staticmethod(hang)  # type: ignore[assignment]
    with pytest.raises(ProviderError, match="cannot be reached") as caught:
        service.get("/id", timeout=0.05)
    assert caught.value.transient
    release.set()


def test_request_ignores_proxies(
    handler: type[Handler], service: MetadataService, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(handler, 200, b"direct")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert service.get("/id") == "direct"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://[", "nonsense://x", "http://127.0.0.1:x"])
def test_unreachable_service_is_a_transient_error(url: str) -> None:
    with pytest.raises(ProviderError, match="metadata service") as caught:
        MetadataService(url).get("/id")
    assert caught.value.transient


def test_read_json_file_returns_the_object(tmp_path: Path) -> None:
    file = tmp_path / "notice.json"
    assert read_json_file(file) is None
    file.write_text('{"at": "now"}')
    assert read_json_file(file) == {"at": "now"}


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b'"text"'])
def test_read_json_file_raises_for_other_content(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "notice.json"
    file.write_bytes(content)
    with pytest.raises(ProviderError, match=r"cannot read .*notice\.json"):
        read_json_file(file)


def test_read_json_file_raises_for_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="cannot read"):
        read_json_file(tmp_path)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2025-09-18T08:22:00Z", datetime(2025, 9, 18, 8, 22, tzinfo=UTC)),
        ("2025-09-18T10:22:00+02:00", datetime(2025, 9, 18, 8, 22, tzinfo=UTC)),
        ("2025-09-18T08:22:00", datetime(2025, 9, 18, 8, 22, tzinfo=UTC)),
        ("Mon, 19 Sep 2016 18:29:47 GMT", datetime(2016, 9, 19, 18, 29, 47, tzinfo=UTC)),
        ("", None),
        ("soon", None),
        (7, None),
        (None, None),
    ],
)
def test_notice_time_reads_both_forms(text: object, moment: datetime | None) -> None:
    assert notice_time(text) == moment


@given(st.text(max_size=40) | st.from_regex(r"\w{3}, \d+ \w{3} \d+ \d+:\d+:\d+ [-+]?\w+", fullmatch=True))
def test_notice_time_of_any_text_has_a_zone_or_is_none(text: str) -> None:
    found = notice_time(text)
    assert found is None or found.tzinfo is not None


@given(st.text(max_size=40))
def test_json_object_of_any_text_is_a_mapping(text: str) -> None:
    assert isinstance(json_object(text), dict)
    assert json_object('{"a": 1}') == {"a": 1}
    assert json_object(None) == json_object("[1]") == {}
