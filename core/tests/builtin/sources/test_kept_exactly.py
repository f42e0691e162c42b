"""Task files are kept exactly: what a parser would drop or change is refused, with its place."""

from __future__ import annotations

import bz2
import gzip
import importlib
import json
import lzma
import math
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cloud_tasks.builtin import open_task_source
from cloud_tasks.errors import InputError
from cloud_tasks.model import Task
from cloud_tasks.sanitize import MAX_DEPTH, MAX_DIGITS

ENDLESS = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)


def read(path: Path | str, folder: Path | None = None) -> list[Task]:
    with open_task_source(None, path, base_dir=folder) as source:
        return list(source)


def refusal(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError) as caught:
        read(path)
    text = str(caught.value)
    assert "\n" not in text
    return text.removeprefix(f"{folder}/")


# -- keys ---------------------------------------------------------------------------------------------------------

TWICE = [
    ('{"id": "a", "data": {"x": 1, "x": 2}}', 'data: "x" is given twice'),
    ('{"id": "a", "id": "b", "data": {}}', '"id" is given twice'),
    ('{"id": "a", "data": {"x": 1}, "data": {}}', '"data" is given twice'),
    ('{"id": "a", "data": {"x": [1, {"y": 1, "z": {}, "y": 1}]}}', 'data.x[1]: "y" is given twice'),
    ('{"id": "a", "data": {"url": "http://h:1/:", "é": 1, "\\u00e9": 2}}', 'data: "é" is given twice'),
    ('{"id": "a", "data": {"": 1, "": 2}}', 'data: "" is given twice'),
]


@pytest.mark.parametrize(("entry", "message"), TWICE)
@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_key_that_is_given_twice_is_refused(tmp_path: Path, entry: str, message: str, suffix: str) -> None:
    good = '{"id": "first", "data": {"x": {"a:b": ":"}}}'
    content = f"[{good},\n{entry}]" if suffix == "json" else f"{good}\n{entry}\n"
    assert refusal(tmp_path, f"a.{suffix}", content) == f"a.{suffix}:2: task 2: {message} in one object"


def test_key_that_is_given_twice_is_refused_at_its_own_line(tmp_path: Path) -> None:
    content = '[\n  {\n    "id": "a",\n    "data": {\n      "x": 1,\n      "x": 2\n    }\n  }\n]\n'
    assert refusal(tmp_path, "a.json", content).startswith('a.json:6: task 1: data: "x" is given twice')


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "- id: a\n  data:\n    x: 1\n    y: 2\n    x: 3\n",
            'a.yaml:5: task 1: "x" is given twice in one object (first',
        ),
        ("- id: a\n  id: b\n  data: {}\n", 'a.yaml:2: task 1: "id" is given twice'),
        ("- id: a\n  data: {x: [{1: 2, '1': 3}]}\n", 'a.yaml:2: task 1: "1" is given twice'),
        ("- id: a\n  data: {<<: {x: 1}, <<: {y: 1}}\n", 'a.yaml:2: task 1: "<<" is given twice'),
        ("- id: a\n  data: {[1]: 2}\n", "a.yaml:2: task 1: a key must be text"),
    ],
)
def test_yaml_key_that_is_given_twice_is_refused(tmp_path: Path, content: str, message: str) -> None:
    assert refusal(tmp_path, "a.yaml", content).startswith(message)


def test_yaml_key_is_the_text_that_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("- id: a\n  data: {1: 1, 007: 1, on: 1, 1.10: 1, 2024-01-31: 1, ~: 1}\n")
    assert list(read(path)[0].data) == ["1", "007", "on", "1.10", "2024-01-31", "~"]


def test_yaml_merged_mappings_may_be_overridden_in_every_task(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        "- id: a\n  data: &a {x: 1, y: 1}\n- id: b\n  data: &b {<<: *a, y: 2}\n- id: c\n  data: {<<: *b, y: 3}\n"
    )
    assert [task.data for task in read(path)] == [{"x": 1, "y": 1}, {"x": 1, "y": 2}, {"x": 1, "y": 3}]


KEYS = st.sampled_from(["a", "b", ":", "é", '"', "\\", "\U0001f600"])
PAIRS = st.recursive(
    st.integers() | st.text(st.characters(exclude_categories=["Cs"]), max_size=4) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(KEYS, inner), max_size=3).map(lambda p: ("{}", p)),
    max_leaves=8,
)


def written(value: Any) -> str:
    if isinstance(value, tuple):
        return "{" + ", ".join(f"{json.dumps(key)}: {written(entry)}" for key, entry in value[1]) + "}"
    return "[" + ", ".join(map(written, value)) + "]" if isinstance(value, list) else json.dumps(value)


def repeats_a_key(value: Any) -> bool:
    if isinstance(value, tuple):
        keys = [key for key, _ in value[1]]
        return len(set(keys)) < len(keys) or any(repeats_a_key(entry) for _, entry in value[1])
    return isinstance(value, list) and any(map(repeats_a_key, value))


@given(st.lists(st.tuples(KEYS, PAIRS), max_size=4))
@ENDLESS
def test_json_is_refused_exactly_if_a_key_is_given_twice(tmp_path: Path, pairs: list[tuple[str, Any]]) -> None:
    data = ("{}", pairs)
    path = tmp_path / "a.json"
    path.write_text(f'[{{"id": "a", "data": {written(data)}}}]')
    if repeats_a_key(data):
        assert "is given twice in one object" in refusal(tmp_path, "a.json", path.read_bytes())
    else:
        assert read(path)[0].data == json.loads(written(data))


# -- numbers, text and depth ---------------------------------------------------------------------------------------

VALUES = [
    ("1e400", "data.x: a number beyond the range of a double (1e400)"),
    ("-1.5E+309", "data.x: a number beyond the range of a double (-1.5E+309)"),
    ("9" * 400 + ".0", "data.x: a number beyond the range of a double (9999"),
    ("9" * (MAX_DIGITS + 1), "data.x: an integer of more than 1,000 digits"),
    ("-" + "9" * 5000, "data.x: an integer of more than 1,000 digits"),
    ('"\\ud800"', 'data.x: text that is not valid Unicode ("\\ud800")'),
    ('{"caf\\udce9": 1}', 'data.x: text that is not valid Unicode ("caf\\udce9")'),
    ("[" * MAX_DEPTH + "]" * MAX_DEPTH, "nested deeper than 200 levels"),
    ('{"a":' * 3000 + "1" + "}" * 3000, "nested deeper than 200 levels"),
]


@pytest.mark.parametrize(("value", "message"), VALUES, ids=range(len(VALUES)))
@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_value_that_cannot_be_kept_is_refused(tmp_path: Path, value: str, message: str, suffix: str) -> None:
    entry = f'{{"id": "a", "data": {{"y": [1.5, "\\\\"], "x": {value}}}}}'
    content = f"[\n{entry}]" if suffix == "json" else f"\n{entry}"
    assert refusal(tmp_path, f"a.{suffix}", content).startswith(f"a.{suffix}:2: task 1: {message}")


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_value_at_the_limit_is_kept(tmp_path: Path, suffix: str) -> None:
    levels = MAX_DEPTH - 2
    text = f'{{"id": "a", "data": {{"n": {"9" * MAX_DIGITS}, "x": {"[" * levels}{"]" * levels}, "e": 1e308}}}}'
    path = tmp_path / f"a.{suffix}"
    path.write_text(f"[{text}]" if suffix == "json" else text)
    assert read(path)[0].data == json.loads(text)["data"]


@pytest.mark.parametrize("chunk", [3, 1000, 1 << 16])
def test_problem_is_found_at_every_read_size(tmp_path: Path, chunk: int) -> None:
    from cloud_tasks.builtin.sources.json_file import JsonFileSource

    for value in ("1e400", "9" * 5000, '{"a": 1, "a": 2}'):
        (tmp_path / "a.json").write_text(f'[{{"id": "a", "data": {{}}}},\n{{"id": "b", "data": {{"x": {value}}}}}]')
        with pytest.raises(InputError, match=r"a\.json:2: task 2: data\.x"):
            list(JsonFileSource("a.json", tmp_path, chunk_bytes=chunk))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("9" * 5000, "a.yaml:2: task 1: an integer of more than 1,000 digits"),
        ("0x" + "f" * 900, 'a.yaml:1: task 1 ("a"): data.x: an integer of more than 1,000 digits'),
        ("1.0e+400", "a.yaml:2: task 1: a number beyond the range of a double (1.0e+400)"),
        ("[" * 3000 + "]" * 3000, "a.yaml:2: after task 0: nested deeper than 200 levels"),
        ("[" * 100_000, "a.yaml:2: after task 0: nested deeper than 200 levels"),
        ("{a: " * 3000 + "1" + "}" * 3000, "a.yaml:2: after task 0: nested deeper than 200 levels"),
        ("!!float abc", "a.yaml:1: task 1: "),
        ("!!int ''", "a.yaml:1: task 1: "),
        ("!!timestamp x", "a.yaml:1: task 1: "),
        ("!!set {a, b}", 'a.yaml:1: task 1 ("a"): data.x: a value of the type set, which JSON does not have; put it'),
        ("2024-99-99", "a.yaml:1: task 1: "),
    ],
    ids=lambda text: str(text)[:20],
)
def test_yaml_value_that_cannot_be_kept_is_refused(tmp_path: Path, value: str, message: str) -> None:
    assert refusal(tmp_path, "a.yaml", f"- id: a\n  data: {{x: {value}}}\n").startswith(message)


def test_yaml_infinity_that_is_meant_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("- id: a\n  data: {x: .inf, y: -.INF, z: .nan}\n")
    data = read(tmp_path / "a.yaml")[0].data
    assert (data["x"], data["y"], math.isnan(data["z"])) == (math.inf, -math.inf, True)


def bomb(levels: int, leaf: str = "x") -> str:
    lines = [f"    a0: &a0 [{', '.join([leaf] * 9)}]"]
    lines += [f"    a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "- id: a\n  data:\n" + "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "content",
    [
        bomb(9),
        bomb(60),
        bomb(3, leaf="x" * 10_000),
        "- id: a\n  data:\n    k0: &k0 {x: 1}\n"
        + "".join(f"    k{n}: &k{n} {{<<: [{', '.join([f'*k{n - 1}'] * 9)}]}}\n" for n in range(1, 9)),
    ],
    ids=["aliases", "more aliases", "long text", "merges"],
)
def test_yaml_aliases_do_not_make_a_small_file_large(tmp_path: Path, content: str) -> None:
    message = "a.yaml:1: task 1: its aliases repeat more than 1,000,000 values and characters"
    assert refusal(tmp_path, "a.yaml", content) == message


def test_yaml_depth_counts_through_aliases(tmp_path: Path) -> None:
    lines = "\n".join(f"    a{n}: &a{n} [*a{n - 1}]" for n in range(1, 250))
    content = f"- id: a\n  data:\n    a0: &a0 [x]\n{lines}\n"
    assert "nested deeper than 200 levels" in refusal(tmp_path, "a.yaml", content)


# -- factories ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"day": date(2024, 1, 31)},
            "data.day: a value of the type datetime.date, which JSON does not have; convert it",
        ),
        ({"a": [{"p": Path("x")}]}, "data.a[0].p: a value of the type pathlib.PosixPath, which JSON does not have"),
        ({"a": {1, 2}}, "data.a: a value of the type set, which JSON does not have"),
        ({1: "a", "1": "b"}, "data: a key of the type int (1); the keys of JSON are text"),
        ({"name": "caf\udce9"}, "data.name: text that is not valid Unicode ('caf\\udce9')"),
        ({"n": 10**5000}, "data.n: an integer of more than 1,000 digits"),
    ],
)
@pytest.mark.parametrize("as_task", [False, True])
def test_factory_value_that_is_not_json_is_refused(data: Any, message: str, as_task: bool) -> None:
    entry = Task(task_id="a", data=data) if as_task else {"id": "a", "data": data}
    with pytest.raises(InputError) as caught, open_task_source(None, lambda: [entry]) as source:
        list(source)
    assert f'task 1 ("a"): {message}' in str(caught.value)


def test_factory_value_that_contains_itself_is_refused() -> None:
    data: dict[str, Any] = {}
    data["self"] = data
    with (
        pytest.raises(InputError, match="nested deeper"),
        open_task_source(None, [{"id": "a", "data": data}]) as source,
    ):
        list(source)


def test_factory_numpy_value_is_refused_with_its_type() -> None:
    numpy = importlib.import_module("numpy")
    entry = {"id": "a", "data": {"n": numpy.int64(3)}}
    with open_task_source(None, [entry]) as source, pytest.raises(InputError, match=r"data\.n: .* numpy\.int64"):
        list(source)


@pytest.mark.parametrize("task_id", ["", "caf\udce9", 5])
def test_factory_id_is_checked_in_a_task_object_too(task_id: Any) -> None:
    with pytest.raises(InputError, match="task 1: "), open_task_source(None, [Task(task_id=task_id)]) as source:
        list(source)


# -- forms and hints --------------------------------------------------------------------------------------------------

LIST = '[{"id": "a", "data": {"x": 1}},\n {"id": "b", "data": {}}]\n'
LINES = '{"id": "a", "data": {"x": 1}}\n{"id": "b", "data": {}}\n'
WRAPPED = f'{{ "tasks"\n: {LIST}}}\n'
YAML = "tasks:\n- id: a\n  data: {x: 1}\n- {id: b, data: {}}\n"
EXPECTED = [Task(task_id="a", data={"x": 1}), Task(task_id="b")]


@pytest.mark.parametrize(
    ("name", "content"), [("a.json", LIST), ("a.json", LINES), ("a.json", WRAPPED), ("a.yaml", YAML)]
)
@pytest.mark.parametrize("pack", [lambda b: b, lambda b: gzip.compress(b, mtime=0), bz2.compress, lzma.compress])
def test_form_and_compression_are_recognized_by_content(tmp_path: Path, name: str, content: str, pack: Any) -> None:
    (tmp_path / name).write_bytes(pack(content.encode()))
    assert read(tmp_path / name) == EXPECTED
    assert read(f"file://{tmp_path / name}") == EXPECTED


@pytest.mark.parametrize("content", ['{"tasks": []}', '{"tasks":[ ] }\n', "tasks: []\n"])
def test_empty_list_of_tasks_has_none(tmp_path: Path, content: str) -> None:
    name = "a.json" if content.startswith("{") else "a.yaml"
    (tmp_path / name).write_text(content)
    assert read(tmp_path / name) == []


def test_zstandard_is_read(tmp_path: Path) -> None:
    zstd = importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    packed = zstd.compress(LIST.encode())
    (tmp_path / "a.json.zst").write_bytes(packed)
    assert read(tmp_path / "a.json.zst") == EXPECTED
    (tmp_path / "a.json").write_bytes(packed)
    assert read(tmp_path / "a.json") == EXPECTED
    (tmp_path / "cut.jsonl.zst").write_bytes(zstd.compress(LINES.encode())[:-3])
    with pytest.raises(InputError, match="cannot read the file"):
        read(tmp_path / "cut.jsonl.zst")


def test_zstandard_without_its_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    message = refusal(tmp_path, "a.json", bytes.fromhex("28b52ffd") + b"rest")
    assert message == "a.json: Zstandard files need another package; install it with: pip install 'cloud-tasks[zstd]'"


READER = "import sys; from cloud_tasks.builtin import open_task_source\n" + (
    "with open_task_source(None, sys.argv[1]) as source: print([task.task_id for task in source], source.where)"
)


@pytest.mark.parametrize(
    ("spec", "content"),
    [
        ("-", LIST),
        ("-", LINES),
        ("-", WRAPPED),
        ("json:-", LIST),
        ("jsonl:-", LINES),
        ("yaml:-", YAML),
        ("json:-", gzip.compress(LIST.encode(), mtime=0)),
    ],
)
def test_standard_input_is_read(spec: str, content: str | bytes) -> None:
    data = content.encode() if isinstance(content, str) else content
    done = subprocess.run([sys.executable, "-c", READER, spec], input=data, capture_output=True, check=False)
    assert (done.stdout, done.stderr) == (b"['a', 'b'] standard input\n", b"")


def test_file_named_like_standard_input_is_read_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-").write_text(LIST)
    assert read("json:./-") == EXPECTED


@pytest.mark.parametrize("name", ["a.txt", "tasks", "a b.dat", "-x", "x:y"])
def test_hint_for_an_unknown_suffix_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(LIST)
    with pytest.raises(InputError) as caught:
        read(name)
    assert read(caught.value.hint.partition(" or write ")[2]) == EXPECTED


@pytest.mark.parametrize(
    "content", [LIST, json.dumps(json.loads(LIST), indent=2), json.dumps({"tasks": json.loads(LIST)}, indent=1)]
)
def test_hint_for_a_document_in_a_lines_file_can_be_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.jsonl").write_text(content)
    with pytest.raises(InputError) as caught:
        read("a.jsonl")
    assert read(caught.value.hint.partition(" write ")[2]) == EXPECTED


def test_hint_for_a_file_that_is_not_compressed_can_be_followed(tmp_path: Path) -> None:
    path = tmp_path / "a.json.gz"
    path.write_text(LIST)
    with pytest.raises(InputError, match=r"not gzip data; rename it to end without \.gz"):
        read(path)
    assert read(path.rename(tmp_path / "a.json")) == EXPECTED


@given(st.text())
@example("{}")
@example('{"tasks": 3}')
@example("[[")
@example("\x1f\x8b")
@example("\x00")
@example("- &a [*a]")
@example("? [a]\n: b")
@example("%YAML 9.9\n---\n- a")
@example("tasks: 5")
@ENDLESS
def test_any_content_is_read_or_refused_in_one_line(tmp_path: Path, content: str) -> None:
    for name in ("a.json", "a.jsonl", "a.yaml"):
        (tmp_path / name).write_bytes(content.encode("utf-8", "surrogatepass"))
        message = ""
        try:
            read(tmp_path / name)
        except InputError as error:
            message = str(error)
        assert "\n" not in message


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.yaml"])
def test_compressed_file_that_becomes_a_huge_task_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for module in ("taskfile.json_stream", "builtin.sources.json_lines", "builtin.sources.yaml_file"):
        monkeypatch.setattr(f"cloud_tasks.{module}.MAX_TASK_LENGTH", 1 << 20)
    good = {"id": "a", "data": {"x": "y" * 500_000}}
    text = json.dumps(good) + "\n" if name == "a.jsonl" else f"[{json.dumps(good)},\n"
    (tmp_path / name).write_bytes(gzip.compress(text.encode() + b'{"id": "b", "data": {"x": "' + b"y" * (8 << 20)))
    with pytest.raises(InputError, match="longer than 1 MB"):
        read(tmp_path / name)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs /dev/zero")
@pytest.mark.parametrize("source", ["json", "jsonl", "yaml"])
def test_endless_file_is_refused(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.setattr("cloud_tasks.builtin.sources.json_lines.MAX_TASK_LENGTH", 1 << 20)
    with pytest.raises(InputError):
        read(f"{source}:/dev/zero")
