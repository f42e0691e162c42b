"""`Secrets`: the files of a folder as a mapping."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from cloud_tasks.worker.common.secrets import Secrets


def test_secrets_are_the_files_of_a_folder_when_they_are_used(tmp_path: Path) -> None:
    secrets = Secrets(str(tmp_path))
    assert (len(secrets), repr(secrets)) == (0, "<secrets: none>")
    (tmp_path / "b").write_bytes("ä \n".encode())
    (tmp_path / "a").write_text("SEKRET")
    assert dict(secrets) == {"a": "SEKRET", "b": "ä \n"}
    assert repr(secrets) == "<secrets: a, b>"
    assert b"SEKRET" not in pickle.dumps(secrets)
    assert secrets.get("c") is None


def test_secrets_name_what_there_is_but_no_value(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xffSEKRET")
    (tmp_path / ".hidden").write_text("x")
    secrets = Secrets(str(tmp_path))
    assert "a" in secrets
    with pytest.raises(ValueError, match=f"the secret a is not UTF-8 text; read the bytes of {tmp_path}/a") as failed:
        _ = secrets["a"]
    assert "SEKRET" not in str(failed.value)
    for name in ("b", ".hidden", "../a", ""):
        with pytest.raises(KeyError, match="no such secret; there are: a"):
            _ = secrets[name]
    assert dict(Secrets("")) == {}
