"""Placeholders: what counts as one, in which spelling, and what is left to the shell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_tasks.command_template import CommandTemplate
from cloud_tasks.errors import InputError

DATA: dict[str, object] = {
    "v": "V",
    "my-v": "dash",
    "my v": "blank",
    "a.b": "dot",
    "0": "zero",
    "größe": "umlaut",
    "deep": {"a": {"b": 1}, "c.d": 2},
    "fastq_1": "x.fq",
    "a,b": "comma",
    "x/y": "slash",
    "n:": "colon",
    "files": ["p", "q"],
    "it's": "quote",
    "": "empty name",
}


def line(template: str, data: dict[str, object] = DATA) -> str:
    command = CommandTemplate(template, is_bash=True)
    command.check(data)
    return command.line(data)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{my-v} {my v} {a.b} {0} {größe}", "dash blank dot zero umlaut"),
        ("{deep.a.b} {deep.c.d} {deep.a}", "1 2 '{\"b\": 1}'"),
        ("{a,b} {x/y} {n:} {it's}", "comma slash colon quote"),
        ("echo {files} '{files}'", "echo p q 'p q'"),
        ("{{v}} {{}} {{{v}}}", "{v} {} {V}"),
        ('\'{{"a": {v}, "b": {{"c": "{v}"}}}}\'', '\'{"a": V, "b": {"c": "V"}}\''),
        ('curl -d \'{"a":{"b":1}}\'', 'curl -d \'{"a":{"b":1}}\''),
        ("awk '{{print}}' {v}", "awk '{print}' V"),
        ("awk '{print $1}' {v}", "awk '{print $1}' V"),
        ("echo ${HOME} ${v} '${v}' \"\\${v}\"", "echo ${HOME} ${v} '${v}' \"\\${v}\""),
        ("echo {1..3} {a..c} {x,y} {} \\{v} \\{v\\}", "echo {1..3} {a..c} {x,y} {} \\{v} \\{v\\}"),
        ("{ echo {v}; }", "{ echo V; }"),
        ("find . -exec cp {} {v} \\;", "find . -exec cp {} V \\;"),
        ("x }} y", "x }} y"),
        ("echo {{fd}}", "echo {fd}"),
        ("docker ps --format '{{{{.Names}}}}'", "docker ps --format '{{.Names}}'"),
        ("exec {{fd}}>{v}", "exec {fd}>V"),
        ("echo # {unknown} }} '", "echo # {unknown} }} '"),
    ],
)
def test_placeholders_and_the_braces_of_the_shell(template: str, expected: str) -> None:
    data = {name: value for name, value in DATA.items() if name or "{}" not in template}
    assert line(template, data) == expected


@pytest.mark.parametrize(
    ("template", "hint"),
    [
        ("cat {fastq1}", r"no field for {fastq1}; did you mean {fastq_1}\? \(braces of the shell: {{fastq1}}\)"),
        ("cat {Größe}", r"did you mean {größe}\?"),
        ("cat {my_v}", r"did you mean {my-v}\?"),
        ("cat {deep.x}", "no field for {deep.x}"),
        ("cat {v.x}", "no field for {v.x}"),
        ("awk '{print}'", r"no field for {print}; .*braces of the shell: {{print}}"),
        ("cat {9}", "no field for {9}"),
        ("cat '{zz}' \"{zz}\"", "no field for {zz}; fields: v, my-v, my v, a.b, 0"),
        ("bash -c 'awk {print}'", "no field for {print}"),
        ("cat { v }", r"{ v } is not a placeholder; write {v}, or {{ v }} for braces of the shell"),
        ("cat {v:03d}", r"{v:03d} is not a placeholder; write {v}"),
        ("cat {v!r}", "is not a placeholder"),
        ("cat {files[0]}", "is not a placeholder"),
        ("echo a\0b", "NUL"),
        ("docker ps --format '{{.Names}}' {v}", "{{.Names}} would become {.Names}; write {{{{.Names}}}}"),
        ("docker ps --format '{{json .}}'", "{{json .}} would become {json .}; write {{{{json .}}}}"),
    ],
)
def test_unknown_field_is_refused_with_a_suggestion(template: str, hint: str) -> None:
    with pytest.raises(InputError, match=hint.replace("{", r"\{").replace("}", r"\}")):
        line(template)


def test_value_that_cannot_be_an_argument_is_refused_with_the_file_to_read() -> None:
    for value in ("x" * 131_072, ["x" * 131_072], "é" * 70_000, "a\0b", "\ud800"):
        with pytest.raises(InputError, match="CLOUD_TASKS_DATA_FILE"):
            line("cat {x}", {"x": value})
    line("cat {x}", {"x": "x" * 131_071})
    line("cat {x}", {"x": ["x" * 100] * 20_000})
    with pytest.raises(InputError, match="CLOUD_TASKS_DATA_FILE"):
        line("cat '{x}'", {"x": ["x" * 100] * 20_000})


@given(name=st.text(st.characters(exclude_characters="{}\0\\$", exclude_categories=["Cs"]), min_size=1, max_size=8))
def test_field_of_any_name_is_replaced(name: str) -> None:
    command = CommandTemplate(f"echo {{{name}}} '{{{name}}}'", is_bash=True)
    command.check({name: "x y"})
    assert command.line({name: "x y"}) == "echo 'x y' 'x y'"


@given(
    template=st.text(st.sampled_from("{}{} $\\'\"`()[]<>|&;#\n=avx1-"), max_size=24),
    is_bash=st.booleans(),
)
def test_any_template_is_accepted_or_refused_in_one_line(template: str, is_bash: bool) -> None:
    command, message = CommandTemplate(template, is_bash=is_bash), ""
    try:
        command.check({"a": "x", "v": "y"})
    except InputError as error:
        message = error.hint
    assert "\n" not in message


@pytest.mark.parametrize("name", ["task_id", "attempt", "slot", "scratch_dir"])
def test_placeholder_that_is_a_field_of_every_task_and_of_the_data_is_refused(name: str) -> None:
    data = {name: "from the data", "n": 1}
    used = CommandTemplate(f"echo {{{name}}} {{n}}", is_bash=True)
    with pytest.raises(InputError, match=f"{name}.* is a field of every task, and of this task's data"):
        used.values("a", data)
    assert used.values("a", {"n": 1})["task_id"] == "a"
    assert CommandTemplate("echo {n}", is_bash=True).values("a", data)["n"] == 1
