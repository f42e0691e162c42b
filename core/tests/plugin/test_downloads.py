"""Data of a download."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_tasks.errors import InputError
from cloud_tasks.plugin import Download, DownloadContext

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


def context(url: str) -> DownloadContext:
    return DownloadContext(url=url, valid_for=timedelta(hours=1))


@given(st.text(min_size=1))
def test_download_context_takes_the_name_of_the_object_as_it_is(name: str) -> None:
    assert context(f"gs://b/{name}").bucket_and_name("s3", "gs") == ("b", name)


@pytest.mark.parametrize("url", ["s3://b/x", "gs:/b/x", "gs:///x", "gs://b", "gs://b/", "", "/b/x"])
def test_download_context_refuses_what_is_no_file_of_a_bucket(url: str) -> None:
    with pytest.raises(InputError, match=r"not a file that instances can download; set run.staging to gs://bucket/"):
        context(url).bucket_and_name("gs", "gcs")
