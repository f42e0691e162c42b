"""Links that another user planted at the names of logs are not followed."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud_tasks.errors import InputError
from cloud_tasks.worker.reporting.durable_sinks import EventFile
from cloud_tasks.worker.task_process.output_capture import Outputs, log_path


def test_log_of_a_task_follows_no_link(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "target").write_text("precious")
    Path(log_path(str(tmp_path), "a", 1)).symlink_to("target")
    descriptor, is_named = Outputs(log_dir=str(tmp_path), capture=False).open("a", 1)
    assert (descriptor, is_named) == (None, False)
    assert "cannot write the log of a task" in capfd.readouterr().err
    assert (tmp_path / "target").read_text() == "precious"


def test_event_log_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("precious\n")
    (tmp_path / "events.log").symlink_to("target")
    with pytest.raises(InputError, match="symbolic link; name the file that it points to"):
        EventFile(str(tmp_path / "events.log"))
    assert (tmp_path / "target").read_text() == "precious\n"


def test_event_log_may_be_a_device() -> None:
    file = EventFile("/dev/null")
    file.write([b"{}"])
    file.close()
    EventFile("/dev/fd/1").close()
