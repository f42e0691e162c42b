"""Unit tests of messages of a queue."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cloud_tasks_aws.queue.bodies import MESSAGE_BYTES, Encoded, decode, encode, fits

# Messages


@given(st.binary(max_size=300))
def test_encode_decode_round_trip(body: bytes) -> None:
    message = encode(body)
    assert message.text
    assert decode(message.text, message.encoding) == body


@given(st.text(max_size=100))
def test_encode_produces_valid_sqs_text(text: str) -> None:
    message = encode(text.encode(errors="replace"))
    for character in message.text:
        code = ord(character)
        assert (
            code in (0x9, 0xA, 0xD) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or 0x10000 <= code <= 0x10FFFF
        )


def test_decode_returns_invalid_base64_unchanged() -> None:
    assert decode("no base64!", "base64") == b"no base64!"
    assert decode("text", "unknown") == b"text"


def test_encode_sends_json_as_text() -> None:
    assert encode(b'{"task_id": "t"}') == Encoded('{"task_id": "t"}')


def test_encoded_size_includes_attributes() -> None:
    plain, marked = Encoded("x" * 100), Encoded("x" * 100, "base64")
    assert plain.size == 100
    assert marked.size == 100 + len("cloud-tasks-form") + len("String") + len("base64")


def test_encoded_messages_have_deduplication_ids_of_their_own() -> None:
    assert encode(b"same").unique != encode(b"same").unique


def test_fits_counts_the_encoded_size() -> None:
    assert fits(b"x" * MESSAGE_BYTES)
    assert not fits(b"x" * (MESSAGE_BYTES + 1))
    assert not fits(b"\xff" * (MESSAGE_BYTES * 3 // 4))
    assert fits(b"\xff" * (MESSAGE_BYTES * 3 // 4 - 100))
