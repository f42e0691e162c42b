"""Reading of configuration files that are none, or no regular file."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from cloud_tasks.config import yaml_reader
from cloud_tasks.config.yaml_reader import read_document
from cloud_tasks.errors import InputError

OTHER_FILES = {
    "shadow": "root:$6$xSECRETx:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\n",
    "passwd": "root:x:0:0:SECRET:/root:/bin/bash\n",
    "environment": "TOKEN=SECRET\n",
    "private key": "-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----\n",
    "headers": "Authorization SECRET: x\n",
    "alias": "a: *SECRET\n",
    "anchor": "a: &SECRET 1\nb: &SECRET 2\nc: [\n",
    "text": "SECRET and more\n",
    "list": "- SECRET\n",
    "credentials": "[default]\naws_secret_access_key = SECRET\n",
    "question": "? SECRET\n: [x\n",
    "repeated": "the SECRET: 1\nthe SECRET: 2\n",
}


@pytest.mark.parametrize("text", OTHER_FILES.values(), ids=OTHER_FILES.keys())
def test_error_about_a_file_that_is_no_configuration_has_none_of_its_content(tmp_path: Path, text: str) -> None:
    file = tmp_path / "other"
    file.write_text(text)
    with pytest.raises(InputError) as raised:
        read_document(file)
    assert "SECRET" not in str(raised.value)
    assert str(raised.value).startswith(f"{file}:")
    assert len(str(raised.value).splitlines()) == 1


def test_pipe_without_a_writer_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_reader, "_WRITER_SECONDS", 0.2)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe: no program writes to this pipe; check the path of --config"):
        read_document(tmp_path / "pipe")


@pytest.mark.parametrize("parts", [[b"provider: local\n"], [b"", b"provider: ", b"local\n"]])
def test_pipe_is_read_to_its_end_however_slow_its_writer_is(tmp_path: Path, parts: list[bytes]) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def write() -> None:
        with pipe.open("wb", buffering=0) as out:
            for part in parts:
                out.write(part)
                time.sleep(0.1)

    writer = threading.Thread(target=write)
    writer.start()
    assert {name: found.value for name, found in read_document(pipe).items()} == {"provider": "local"}
    writer.join(timeout=30)
