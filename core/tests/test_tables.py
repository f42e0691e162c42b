"""Tables: sorting, filtering, layout, and values as text and data."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_tasks.errors import InputError
from cloud_tasks.model import Money, ProvisioningModel
from cloud_tasks.tables import (
    Column,
    filter_rows,
    parse_sort,
    plain_rows,
    render_markdown_table,
    render_records,
    render_table,
    sort_rows,
)

Row = dict[str, Any]


def column(name: str, **more: Any) -> Column[Row]:
    return Column(name=name, title=name.title(), value=lambda row: row[name], **more)


COLUMNS = (
    column("name", aliases=("label",)),
    column("vcpu", align_right=True),
    column("vcpu_price"),
    column("price", places=2, align_right=True),
)


def row(name: str, vcpu: int | None, price: str = "1") -> Row:
    return {"name": name, "vcpu": vcpu, "vcpu_price": None, "price": Money(price)}


ROWS = [row("b", 2, "3"), row("A", 2, "1"), row("c", 1, "2"), row("d", None, "0")]


def names(text: str) -> str:
    return "".join(each["name"] for each in sort_rows(ROWS, parse_sort(text, COLUMNS)))


@pytest.mark.parametrize(
    ("fields", "order"),
    [
        ("name", "Abcd"),
        ("-name", "dcbA"),
        ("vcpu,name", "cAbd"),
        ("-vcpu,-name", "bAcd"),
        ("-vcpu name", "Abcd"),
        ("price", "dAcb"),
        ("-p", "bcAd"),
        ("label", "Abcd"),
        ("-lab", "dcbA"),
    ],
)
def test_sort_rows_by_several_fields_in_either_direction(fields: str, order: str) -> None:
    assert names(fields) == order


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ("v", '"v" is ambiguous; choose from vcpu, vcpu_price'),
        ("name,size", 'unknown field "size"; choose from name, vcpu, vcpu_price, price'),
        ("", "no field given"),
        (",", "no field given"),
        ("-", 'unknown field ""'),
    ],
)
def test_parse_sort_rejects_unknown_and_ambiguous_fields(fields: str, reason: str) -> None:
    with pytest.raises(InputError) as error:
        parse_sort(fields, COLUMNS)
    assert reason in str(error.value)
    assert str(error.value).startswith("--sort-by: ")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 3))), st.booleans())
def test_sort_rows_is_stable_and_puts_unknown_values_last(
    pairs: list[tuple[str, int | None]], descending: bool
) -> None:
    rows = [{**row(name, vcpu), "place": place} for place, (name, vcpu) in enumerate(pairs)]
    found = sort_rows(rows, parse_sort("-vcpu" if descending else "vcpu", COLUMNS))
    known = [each for each in found if each["vcpu"] is not None]
    assert found[len(known) :] == [each for each in rows if each["vcpu"] is None]
    sign = -1 if descending else 1
    assert [(sign * each["vcpu"], each["place"]) for each in known] == sorted(
        (sign * each["vcpu"], each["place"]) for each in known
    )


def test_filter_rows_matches_any_column_and_case() -> None:
    assert [each["name"] for each in filter_rows(ROWS, COLUMNS, "a")] == ["A"]
    assert [each["name"] for each in filter_rows(ROWS, COLUMNS, "$3")] == ["b"]


def test_render_table_has_heading_rule_and_aligned_columns() -> None:
    assert render_table(ROWS[:2], COLUMNS) == (
        "Name  Vcpu  Vcpu_Price  Price\n"
        "-----------------------------\n"
        "b        2  -           $3.00\n"
        "A        2  -           $1.00"
    )


@given(st.integers(20, 120), st.lists(st.text("ab c", min_size=1, max_size=60).map(str.strip).filter(bool), min_size=1))
def test_render_table_cuts_no_text_at_any_width(width: int, texts: list[str]) -> None:
    """Invariant 3: a maximum width wraps cells, and no width keeps each row on one line."""
    rows = [{"name": text, "vcpu": 1} for text in texts]
    columns = (column("name"), column("vcpu", align_right=True))
    lines = render_table(rows, columns, width=width).splitlines()
    assert max(map(len, lines)) <= width
    words = "".join(texts).replace(" ", "")
    assert (
        "".join(line[: -len("  Vcpu")] if line.endswith(" 1") else line for line in lines[2:]).replace(" ", "") == words
    )
    assert len(render_table(rows, columns).splitlines()) == len(rows) + 2


def test_render_table_total_extends_over_empty_cells() -> None:
    columns = (column("name"), column("vcpu", align_right=True), column("price", places=2, align_right=True))
    assert render_table(ROWS[:1], columns, total=("All of them:", "", "$3.00")).splitlines() == [
        "Name  Vcpu  Price",
        "-----------------",
        "b        2  $3.00",
        "-----------------",
        "All of them:  $3.00",
    ]


def test_render_table_max_width_moves_only_the_longer_row() -> None:
    columns = (column("name", max_width=6), column("vcpu"))
    rows = [row("short", 1), row("longer than six", 2)]
    assert render_table(rows, columns).splitlines()[2:] == ["short   1", "longer than six  2"]


def test_render_table_puts_line_breaks_on_one_line() -> None:
    assert render_table([{"name": "a\nb"}], (column("name"),)).splitlines()[2:] == ["a b"]


def test_render_markdown_table_escapes_cells_and_aligns_numbers() -> None:
    columns = (column("name"), column("vcpu", align_right=True))
    assert render_markdown_table([row("a|b\n<c>", 2)], columns).splitlines() == [
        "| Name | Vcpu |",
        "| --- | ---: |",
        "| a\\|b \\<c\\> | 2 |",
    ]


def test_render_records_writes_blocks() -> None:
    assert render_records(ROWS[:1], COLUMNS) == "b\n  Vcpu:       2\n  Vcpu_Price: -\n  Price:      $3.00"


@pytest.mark.parametrize(
    ("value", "text", "plain"),
    [
        (None, "-", None),
        (True, "yes", True),
        (False, "no", False),
        (0, "0", 0),
        (2.5, "2.5", 2.5),
        (Money("0.1"), "$0.100000", "0.1"),
        (ProvisioningModel.SPOT, "spot", "spot"),
        (("a", "b"), "a, b", ["a", "b"]),
        ((), "-", []),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02 03:04:05 UTC", "2026-01-02T03:04:05+00:00"),
    ],
)
def test_column_text_and_plain_value_of_every_type(value: Any, text: str, plain: Any) -> None:
    columns = (column("it"),)
    assert columns[0].text({"it": value}) == text
    assert plain_rows([{"it": value}], columns) == [{"it": plain}]
