"""Data of a download."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_tasks.plugin import Download

URL = "https://depot.example/files/code.tar.gz"
NOT_PRINTABLE = st.text().filter(lambda text: not text.isascii() or not text.isprintable())


@pytest.mark.parametrize(
    "url", ["", "code.tar.gz", "s3://bucket/code", "https:///code", f"{URL}\nheader = x", f"{URL} x"]
)
def test_download_refuses_what_is_no_http_address(url: str) -> None:
    with pytest.raises(ValueError, match="url is no HTTP address"):
        Download(url=url)
    if url:
        with pytest.raises(ValueError, match="token_url is no HTTP address"):
            Download(url=URL, token_url=url)


@given(NOT_PRINTABLE)
def test_download_refuses_text_that_could_insert_a_header(text: str) -> None:
    for headers in ({"x-name": text}, {f"x-{text}": "value"}):
        with pytest.raises(ValueError, match="not printable ASCII"):
            Download(url=URL, headers=headers)
        with pytest.raises(ValueError, match="not printable ASCII"):
            Download(url=URL, token_headers=headers)
    with pytest.raises(ValueError, match="url is no HTTP address"):
        Download(url=URL + text)


def test_download_shows_no_signature_and_no_value_of_a_header() -> None:
    download = Download(
        url=f"{URL}?X-Amz-Signature=1f2e&X-Amz-Security-Token=3d4c",
        headers={"authorization": "5b6a"},
        token_headers={"key": "7988"},
    )
    assert not any(secret in repr(download) for secret in ("1f2e", "3d4c", "5b6a", "7988"))
    assert URL in repr(download)
