"""Sealed texts: what goes in comes out, with the right key only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_tasks.sealing import seal, unseal


@given(st.binary(max_size=9000))
def test_unseal_returns_what_was_sealed(content: bytes) -> None:
    sealed, key = seal(content)
    assert unseal(sealed, key) == content
    assert len(sealed) % 4096 == 0
    assert len(sealed) - len(content) <= 4096 + 8


@given(st.binary(min_size=16, max_size=9000))
def test_seal_hides_the_text_and_has_a_new_key_each_time(content: bytes) -> None:
    (first, key), (second, other) = seal(content), seal(content)
    assert key != other
    assert first != second
    assert content not in first
    assert key not in first


@given(st.binary(max_size=100), st.binary(max_size=40))
def test_unseal_refuses_another_key(content: bytes, key: bytes) -> None:
    sealed, right = seal(content)
    for wrong in (key, right[:-1] + bytes([right[-1] ^ 1])):
        with pytest.raises(ValueError, match="another key"):
            unseal(sealed, wrong)


def test_unseal_refuses_nothing() -> None:
    with pytest.raises(ValueError, match="another key"):
        unseal(b"", bytes(32))
