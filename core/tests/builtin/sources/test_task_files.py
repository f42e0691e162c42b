"""Task files: accepted content, and errors with place and reason."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import math
from pathlib import Path
from typing import NoReturn

import pytest

from cloud_tasks.builtin import open_task_source
from cloud_tasks.errors import InputError
from cloud_tasks.model import Task

JSON = '[\n{"id": "a", "data": {"x": 1}},\n{"task_id": "b", "data": {}}\n]\n'
JSON_LINES = '{"id": "a", "data": {"x": 1}}\n\n{"task_id": "b", "data": {}}\n'
YAML = "---\n# two tasks\n- id: a\n  data:\n    x: 1  # one\n- {task_id: b, data: {}}\n"
EXPECTED = [Task(task_id="a", data={"x": 1}), Task(task_id="b", data={})]


def read(path: Path) -> list[Task]:
    with open_task_source(None, path) as source:
        return list(source)


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tasks.json", JSON),
        ("TASKS.JSON", JSON),
        ("compact.json", JSON.replace("\n", "")),
        ("crlf.json", JSON.replace("\n", "\r\n")),
        ("mark.json", "\ufeff" + JSON),
        ("both.json", '[{"id": "a", "task_id": "a", "data": {"x": 1}}, {"data": {}, "id": "b"}]'),
        ("tasks.jsonl", JSON_LINES),
        ("tasks.ndjson", JSON_LINES),
        ("no_newline.jsonl", JSON_LINES.rstrip()),
        ("mark.jsonl", "\ufeff" + JSON_LINES),
        ("tasks.yaml", YAML),
        ("tasks.yml", YAML),
        ("ended.yml", YAML + "...\n"),
        ("flow.yml", '[{"id": "a", "data": {"x": 1}}, {"id": "b", "data": {}}]'),
        ("merged.yml", "- id: a\n  data: &d {x: 1}\n- id: b\n  data: {}\n"),
        ("tasks.json.gz", gzip.compress(JSON.encode(), mtime=0)),
        ("tasks.jsonl.bz2", bz2.compress(JSON_LINES.encode())),
        ("tasks.yaml.xz", lzma.compress(YAML.encode())),
    ],
)
def test_task_file_is_read_in_order(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert read(write(tmp_path, name, content)) == EXPECTED


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", ""),
        ("a.json", " \n\t"),
        ("a.json", "[]"),
        ("a.json", "[ \n ]\n"),
        ("a.jsonl", ""),
        ("a.jsonl", "\n\n"),
        ("a.yaml", ""),
        ("a.yaml", "---\n"),
        ("a.yaml", "---\n# nothing yet\n"),
        ("a.yaml", "# nothing yet\n"),
        ("a.yaml", "[]\n"),
    ],
)
def test_task_file_without_tasks_is_empty(tmp_path: Path, name: str, content: str) -> None:
    assert read(write(tmp_path, name, content)) == []


@pytest.mark.parametrize("name", ["numbers.json", "numbers.jsonl"])
def test_task_file_values_equal_those_of_the_json_module(tmp_path: Path, name: str) -> None:
    text = (
        '{"id": "a", "data": {"big": 123456789012345678901234567890, "tiny": 5e-324, '
        '"decimal": 0.1, "zero": -0.0, "nan": NaN, "text": "\\ud83d\\ude00 \\u0000", "list": [null, true, []]}}'
    )
    (task,) = read(write(tmp_path, name, f"[{text}]" if name.endswith(".json") else text))
    expected = json.loads(text)["data"]
    assert math.isnan(task.data["nan"])
    assert json.dumps(task.data) == json.dumps(expected)


def test_yaml_values_are_converted_to_json(tmp_path: Path) -> None:
    content = (
        "- id: '007'\n  data: {1: one, big: 123456789012345678901234567890, nested: [{a: ~}], base: &b {x: 1}, c: *b}\n"
    )
    (task,) = read(write(tmp_path, "a.yaml", content))
    assert task.data == {
        "1": "one",
        "big": 123456789012345678901234567890,
        "nested": [{"a": None}],
        "base": {"x": 1},
        "c": {"x": 1},
    }


def test_yaml_anchor_is_known_in_later_tasks(tmp_path: Path) -> None:
    content = "- id: a\n  data: &base {x: 1, y: 2}\n- id: b\n  data:\n    <<: *base\n    y: 3\n"
    assert read(write(tmp_path, "a.yaml", content))[1] == Task(task_id="b", data={"x": 1, "y": 3})


def test_task_file_can_be_read_again(tmp_path: Path) -> None:
    with open_task_source(None, write(tmp_path, "a.json", JSON)) as source:
        assert list(source) == list(source) == EXPECTED


def test_task_file_url_is_read_through_fsspec(tmp_path: Path) -> None:
    path = write(tmp_path, "tasks.json.gz", gzip.compress(JSON.encode(), mtime=0))
    with open_task_source(None, f"file://{path}") as source:
        assert list(source) == EXPECTED


def test_task_file_path_is_relative_to_the_base_folder(tmp_path: Path) -> None:
    write(tmp_path, "a.json", JSON)
    with open_task_source(None, "a.json", base_dir=tmp_path) as source:
        assert list(source) == EXPECTED


BROKEN = [
    ("a.json", "[", "a.json:1: the file ends in the middle of the list, at task 1"),
    ("a.json", JSON[:40], "a.json:3: the file ends in the middle of the list, at task 2"),
    ("a.json", JSON[:-2], "a.json:4: the file ends in the middle of the list, at task 2"),
    ("a.json", '[{"id": "a", "da', "a.json:1: the file ends in the middle of the list, at task 1"),
    ("a.json", '[{"id": "a", "data": {}},\n', "a.json:2: the file ends in the middle of the list, at task 1"),
    ("a.json", '[{"id": "a", "data": {}},\n]', "a.json:2: task 2: not valid JSON: expecting value; remove the comma"),
    ("a.json", '[{"id": "a",\n"data": {x: 1}}]', "a.json:2: task 1: not valid JSON: expecting property name"),
    (
        "a.json",
        '[{"id": "a", "data": {}}\n{"id": "b"}]',
        "a.json:2: expected a comma or the end of the list, found '{'",
    ),
    ("a.json", '[{"id": "a", "data": {}}]\n[]', "a.json:2: unexpected content after the end of the list"),
    (
        "a.json",
        '{"name": "a", "tasks": []}\n',
        'a.json:1: expected a list of tasks, found an object with the keys "name", "tasks"; write [',
    ),
    ("a.json", '{"tasks": [], "name": "a"}', 'a.json:1: expected a closing brace after the list "tasks"; write {"tas'),
    ("a.json", '{"id": "a", "data": {}},\n', "a.json:1: expected the next task, found ','; write the tasks as a list"),
    ("a.json", "7", "a.json:1: expected a list of tasks, found a number"),
    ("a.json", "hello", "a.json:1: expected a list of tasks, found 'h'"),
    ("a.json", b'[{"id": "\xff", "data": {}}]', "a.json:1: not UTF-8 text"),
    ("a.json", b'[{"id": "a", "data": {}}]\n\xc3', "a.json:2: not UTF-8 text"),
    ("a.json", "[12]", "a.json:1: task 1: expected an object, found a number"),
    ("a.json", '["a"]', "a.json:1: task 1: expected an object, found text"),
    ("a.json", "[null]", "a.json:1: task 1: expected an object, found null"),
    ("a.json", '[\n{"data": {}}]', 'a.json:2: task 1: missing "task_id" (or "id")'),
    (
        "a.json",
        '[{"id": 5, "data": {}}]',
        'a.json:1: task 1: "id" must be text, not a number (5); put it in quotes',
    ),
    ("a.json", '[{"id": null, "data": {}}]', 'a.json:1: task 1: "id" must be text, not null'),
    ("a.json", '[{"id": "", "data": {}}]', 'a.json:1: task 1: "id" is empty'),
    ("a.json", '[{"id": "\\ud800", "data": {}}]', 'a.json:1: task 1: id: text that is not valid Unicode ("\\ud800")'),
    (
        "a.json",
        '[{"id": "a", "task_id": "b", "data": {}}]',
        "a.json:1: task 1: \"task_id\" ('b') and \"id\" ('a') differ",
    ),
    ("a.json", '[\n{"id": "a\\u0000b", "data": {}}]', 'a.json:2: task 1: "id" contains the character U+0000 ('),
    ("a.json", '[{"task_id": "é\\u0000", "data": {}}]', 'a.json:1: task 1: "task_id" contains the character U+0000 ('),
    ("a.jsonl", '\n{"id": "\\u0000", "data": {}}', 'a.jsonl:2: task 1: "id" contains the character U+0000 ('),
    ("a.yaml", '- id: "a\\0"\n  data: {}', 'a.yaml:1: task 1: "id" contains the character U+0000 ('),
    (
        "a.json",
        JSON.encode("utf-16"),
        "a.json:1: not UTF-8 text (invalid start byte); convert it with iconv -f utf-16 ",
    ),
    (
        "a.jsonl",
        JSON_LINES.encode("utf-16"),
        "a.jsonl:1: not UTF-8 text (invalid start byte); convert it with iconv -f ",
    ),
    (
        "a.json",
        '[{"id": "é", "data": {}}]'.encode("latin1"),
        "a.json:1: not UTF-8 text (invalid continuation byte); convert it with iconv -f latin1 -t utf-8",
    ),
    ("a.json", '[{"id": "a"}]', 'a.json:1: task 1: task "a" has no "data"'),
    ("a.json", '[{"id": "a", "data": [1]}]', 'a.json:1: task 1: "data" of task "a" must be an object, not a list'),
    ("a.json", '[{"id": "a", "data": {}, "priority": 3}]', 'a.json:1: task 1: unknown key "priority"'),
    ("a.json", '[{"id": "a", "data": {}},\n{"id": "b", "dta": {}}]', 'a.json:2: task 2: unknown key "dta"'),
    ("a.json", "[" * 100_000, "a.json:1: task 1: nested deeper than 200 levels"),
    ("a.jsonl", '{"id": "a", "data": {}}\n{"id": "b", "da', "a.jsonl:2: task 2: not valid JSON: unterminated string"),
    (
        "a.jsonl",
        '{"id": "a", "data": {}} {"id": "b", "data": {}}\n',
        "a.jsonl:1: task 1: not valid JSON: extra data (column 25)",
    ),
    ("a.jsonl", '[\n{"id": "a", "data": {}}\n]\n', "a.jsonl:1: task 1: not valid JSON"),
    (
        "a.jsonl",
        '\n{"id": "a", "data": 3}\n',
        'a.jsonl:2: task 1: "data" of task "a" must be an object, not a number',
    ),
    ("a.jsonl", b'{"id": "a", "data": {}}\n\xff\n', "a.jsonl:2: not UTF-8 text"),
    ("a.yaml", "id: a\ndata: {}\n", "a.yaml:1: expected a list of tasks, found an object; start each task with a dash"),
    ("a.yaml", "hello\n", "a.yaml:1: expected a list of tasks, found a single value"),
    ("a.yaml", "- id: a\n  data: {}\n---\n- id: b\n  data: {}\n", "a.yaml:3: second document"),
    ("a.yaml", "- id: a\n  data: {}\n- id: b\n  data: {x: 1\n", "a.yaml:5: after task 1: not valid YAML"),
    ("a.yaml", "- id: a\n  data: {}\n - id: b\n", "a.yaml:3: after task 1: not valid YAML"),
    ("a.yaml", "- id: 5\n  data: {}\n", 'a.yaml:1: task 1: "id" must be text, not a number (5); put it in quotes'),
    ("a.yaml", "- id: a\n  data:\n", 'a.yaml:1: task 1: "data" of task "a" must be an object, not null'),
    (
        "a.yaml",
        "- id: a\n  data: {}\n- id: b\n  data: {day: 2024-01-31}\n",
        'a.yaml:3: task 2 ("b"): data.day: a value of the type datetime.date, which JSON does not have; put it in',
    ),
    ("a.yaml", "- id: a\n  data: &d {self: *d}\n", "a.yaml:2: task 1: an alias of a value inside itself"),
    ("a.yaml", "- id: a\n  data: *nowhere\n", "a.yaml:2: after task 0: not valid YAML"),
    ("a.yaml", "- id: a\n  data: !!python/object/apply:os.getcwd []\n", "a.yaml:2: after task 1: not valid YAML"),
    ("a.yaml", b"- id: \xff\xfe\n", "a.yaml: after task 0: not valid YAML"),
    ("a.json.gz", b"not compressed", "a.json.gz: cannot read the file"),
    ("a.json.gz", gzip.compress(JSON.encode(), mtime=0)[:-12], "a.json.gz: cannot read the file"),
    ("a.jsonl.xz", lzma.compress(JSON_LINES.encode())[:-8], "a.jsonl.xz: cannot read the file"),
    ("a.csv", "a,b\n", "a.csv: cannot determine the format from the name; known suffixes: .json"),
]


@pytest.mark.parametrize(("name", "content", "message"), BROKEN)
def test_task_file_error_has_place_and_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str | bytes, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, name, content)
    with pytest.raises(InputError) as caught:
        read(Path(name))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("name", ["a.jsonl", "a.yaml"])
def test_text_of_another_encoding_has_a_remedy(tmp_path: Path, name: str) -> None:
    content = '{"id": "é", "data": {}}' if name == "a.jsonl" else "- id: é\n  data: {}\n"
    with pytest.raises(InputError, match=r"; convert it with iconv -f latin1 -t utf-8$"):
        read(write(tmp_path, name, content.encode("latin1")))


def test_ids_with_other_control_characters_are_kept(tmp_path: Path) -> None:
    content = json.dumps([{"id": "a\x01\x1b\n\x7f", "data": {}}])
    assert [task.task_id for task in read(write(tmp_path, "a.json", content))] == ["a\x01\x1b\n\x7f"]


def test_failed_connection_is_not_a_missing_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_url(*_: object) -> None:
        # As the HTTP file system of fsspec does.
        raise FileNotFoundError("http://host/a.json") from ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr("fsspec.open", open_url)
    with (
        pytest.raises(InputError, match=r"^http://host/a.json: cannot read the file: .*Connection refused"),
        open_task_source(None, "http://host/a.json") as source,
    ):
        list(source)


def test_task_file_yields_the_tasks_before_an_invalid_one(tmp_path: Path) -> None:
    with open_task_source(None, write(tmp_path, "a.json", JSON[:-3] + "}")) as source:
        tasks = iter(source)
        assert [next(tasks), next(tasks)] == EXPECTED
        with pytest.raises(InputError):
            next(tasks)


def test_yaml_runs_no_code(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    content = (
        f"- id: a\n  data: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{trace}']]\n"
    )
    with pytest.raises(InputError):
        read(write(tmp_path, "a.yaml", content))
    assert not trace.exists()


@pytest.mark.parametrize("spec", ["nowhere.json", "nowhere.jsonl", "nowhere.yaml", "nowhere.json.gz"])
def test_missing_file_is_an_input_error(tmp_path: Path, spec: str) -> None:
    with pytest.raises(InputError, match="file not found"):
        read(tmp_path / spec)


def test_missing_url_is_an_input_error(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="file not found"),
        open_task_source(None, f"file://{tmp_path}/a.json") as s,
    ):
        list(s)


def test_unknown_url_scheme_is_an_input_error() -> None:
    with pytest.raises(InputError, match="nonsense://"), open_task_source(None, "nonsense://bucket/a.json") as source:
        list(source)


def test_folder_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    with pytest.raises(InputError, match="cannot read the file: Is a directory"):
        read(tmp_path / "a.json")


class _NotFoundResponseError(Exception):
    """As aiohttp reports the status of a response."""

    status, message = 404, "Not Found"

    def __str__(self) -> str:
        return "404, message='Not Found', url='http://host/a.json?key=1'"


class TooManyRedirectsError(_NotFoundResponseError):
    status, message = 0, ""


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (_NotFoundResponseError(), "404 Not Found"),
        (TooManyRedirectsError(), "TooManyRedirectsError"),
        (LookupError("file:///etc/passwd"), "LookupError: file:///etc/passwd"),
        (ConnectionResetError(104, "Connection reset"), "[Errno 104] Connection reset"),
    ],
)
def test_open_binary_names_the_reason_of_a_refused_url(
    monkeypatch: pytest.MonkeyPatch, cause: Exception, reason: str
) -> None:
    def open_url(*_: object) -> NoReturn:
        raise FileNotFoundError("http://host/a.json") from cause

    monkeypatch.setattr("fsspec.open", open_url)
    with pytest.raises(InputError) as raised, open_task_source(None, "http://host/a.json") as source:
        list(source)
    assert str(raised.value) == f"http://host/a.json: cannot read the file: {reason}"
