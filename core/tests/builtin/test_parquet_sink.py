"""The folder of Parquet files beyond its contract: kills, rotation, neighbours, memory."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest

from cloud_tasks.builtin import parquet_sink
from cloud_tasks.builtin.parquet_sink import ParquetSink
from cloud_tasks.builtin.sinks import JsonLinesSink
from cloud_tasks.errors import InputError
from cloud_tasks.testing.event_sink import make_event

WRITER = """
import sys
from pathlib import Path
from cloud_tasks.builtin.parquet_sink import ParquetSink
from cloud_tasks.testing.event_sink import make_event
sink = ParquetSink(Path(sys.argv[1]), rows_per_file=30, interval=3600)
for first in range(0, 10**9, 10):
    sink.write([make_event(number) for number in range(first, first + 10)])
    sink.flush()
    print(first + 10, flush=True)
"""


def sink_of(folder: Path, *, rows: int = 100_000, interval: float = 3600.0) -> ParquetSink:
    return ParquetSink(folder, rows_per_file=rows, interval=interval)


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"))


def ids(folder: Path) -> list[str]:
    """Read one by one: a file that is not complete cannot be."""
    return [each for path in files(folder) for each in pyarrow.parquet.read_table(path)["event_id"].to_pylist()]


def others(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".parquet" and path.name != "_lock")


def expected(count: int) -> list[str]:
    return [f"event-{number}" for number in range(count)]


def test_a_killed_writer_leaves_readable_files_and_the_next_finishes_what_it_began(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        said = [int(writer.stdout.readline()) for _ in range(20)][-1]
        writer.send_signal(signal.SIGKILL)
    assert ids(tmp_path) == expected(len(ids(tmp_path)))
    assert len(ids(tmp_path)) >= said - 30
    sink = sink_of(tmp_path)
    recovered = len(ids(tmp_path))
    assert recovered >= said
    # What was not acked comes again.
    sink.write([make_event(number) for number in range(recovered - 20, recovered + 5)])
    sink.close()
    assert ids(tmp_path) == expected(recovered + 5)
    assert others(tmp_path) == []


def test_a_file_is_finished_when_it_is_full_or_old_enough(tmp_path: Path) -> None:
    sink = sink_of(tmp_path / "rows", rows=10)
    for number in range(25):
        sink.write([make_event(number)])
        sink.flush()
    assert [pyarrow.parquet.read_metadata(path).num_rows for path in files(tmp_path / "rows")] == [10, 10]
    sink.close()
    sink.close()
    assert ids(tmp_path / "rows") == expected(25)
    sink = sink_of(tmp_path / "time", interval=0.0)
    for number in range(3):
        sink.write([make_event(number)])
        sink.flush()
    assert len(files(tmp_path / "time")) == 3
    sink.close()


def test_no_event_leaves_no_file(tmp_path: Path) -> None:
    sink = sink_of(tmp_path)
    sink.write([])
    sink.flush()
    sink.close()
    assert files(tmp_path) == []
    assert others(tmp_path) == []


def test_the_whole_folder_reads_as_one_table_while_it_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "events"
    sink = sink_of(folder, rows=2)
    for number in range(3):
        sink.write([make_event(number, result={"sum": number})])
        sink.flush()
    table = pyarrow.parquet.read_table(folder)
    assert sorted(table["event_id"].to_pylist()) == expected(2)
    assert str(table.schema.field("timestamp").type) == "timestamp[us, tz=UTC]"
    sink.close()
    assert pyarrow.parquet.read_table(folder).num_rows == 3


def test_the_journal_of_a_living_neighbour_is_left_alone(tmp_path: Path) -> None:
    first = sink_of(tmp_path)
    first.write([make_event(0)])
    first.flush()
    second = sink_of(tmp_path)
    second.write([make_event(1)])
    second.close()
    assert ids(tmp_path) == ["event-1"]
    first.write([make_event(2)])
    first.close()
    assert sorted(ids(tmp_path)) == expected(3)


def test_a_journal_whose_file_is_there_already_is_not_written_again(tmp_path: Path) -> None:
    sink = sink_of(tmp_path)
    sink.write([make_event(0)])
    sink.flush()
    (journal,) = tmp_path.glob("_unfinished-*.jsonl")
    kept = tmp_path / "kept"
    shutil.copy(journal, kept)
    sink.close()
    # As after a kill between the two.
    kept.rename(journal)
    sink_of(tmp_path).close()
    assert ids(tmp_path) == ["event-0"]
    assert others(tmp_path) == []


def test_a_line_that_was_cut_off_is_left_out_and_a_half_made_file_is_removed(tmp_path: Path) -> None:
    journal = JsonLinesSink(tmp_path / "_unfinished-20260101T000000.000000-1-1.jsonl")
    journal.write([make_event(0), make_event(1)])
    journal.close()
    os.truncate(tmp_path / "_unfinished-20260101T000000.000000-1-1.jsonl", 300)
    (tmp_path / "_unfinished-20260101T000000.000000-1-1.tmp").write_bytes(b"PAR1 half")
    (tmp_path / "_unfinished-20250101T000000.000000-1-1.tmp").write_bytes(b"PAR1 half")
    sink_of(tmp_path).close()
    assert ids(tmp_path) == ["event-0"]
    assert others(tmp_path) == []


def test_what_cannot_be_made_a_file_stays_in_the_journal(tmp_path: Path) -> None:
    sink = sink_of(tmp_path, rows=1)
    sink.write([make_event(0)])
    (journal,) = tmp_path.glob("_unfinished-*.jsonl")
    # Where the file is to be made there is a folder.
    (journal.with_suffix(".tmp") / "in the way").mkdir(parents=True)
    sink.flush()
    sink.close()
    assert ids(tmp_path) == []
    shutil.rmtree(journal.with_suffix(".tmp"))
    sink_of(tmp_path).close()
    assert ids(tmp_path) == ["event-0"]


def test_large_events_end_a_journal_whatever_their_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_sink, "_JOURNAL_BYTES", 100_000)
    sink = sink_of(tmp_path)
    for number in range(4):
        sink.write([make_event(number, result="x" * 60_000)])
        sink.flush()
    assert [pyarrow.parquet.read_metadata(path).num_rows for path in files(tmp_path)] == [2, 2]
    sink.close()


def test_memory_does_not_grow_with_the_number_of_events(tmp_path: Path) -> None:
    program = f"""
import resource, sys
from pathlib import Path
from cloud_tasks.builtin.parquet_sink import ParquetSink
from cloud_tasks.testing.event_sink import make_event
sink = ParquetSink(Path({str(tmp_path)!r}), rows_per_file=10_000, interval=3600)
for first in range(0, int(sys.argv[1]), 500):
    sink.write([make_event(number, result="x" * 200) for number in range(first, first + 500)])
    sink.flush()
sink.close()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
    sizes = []
    for count in (20_000, 60_000):
        answer = subprocess.run(
            [sys.executable, "-c", program, str(count)], capture_output=True, text=True, check=True, timeout=120
        )
        sizes.append(int(answer.stdout))
    assert sizes[1] < sizes[0] + 40, sizes


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written to: "):
        sink_of(tmp_path / "file")
