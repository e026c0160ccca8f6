"""Tables on a terminal: nothing is cut, lines fit where they can, and a pipe has whole rows."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from custsvc.cli import output, table

ROOM = 80
WORDS = st.text(string.ascii_letters + string.digits + "-_.@äß客戶", min_size=1, max_size=50)
CELLS = st.one_of(st.none(), st.integers(), WORDS, st.lists(WORDS, max_size=12).map(" ".join))


def tables() -> st.SearchStrategy[tuple[list[str], list[dict[str, Any]]]]:
    columns = st.lists(st.from_regex("[a-z_.]{1,20}", fullmatch=True), min_size=1, max_size=10, unique=True)
    return columns.flatmap(
        lambda names: st.tuples(
            st.just(names),
            st.lists(st.fixed_dictionaries(dict.fromkeys(names, CELLS)), min_size=1, max_size=4),
        )
    )


def printed(
    capsys: pytest.CaptureFixture[str], columns: list[str], items: list[dict[str, Any]], *, room: int | None
) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        if room is None:
            patch.delenv("COLUMNS", raising=False)
        else:
            patch.setenv("COLUMNS", str(room))
        output.rows("table", columns, items)
    return capsys.readouterr().out.splitlines()


def words_of(items: list[dict[str, Any]]) -> list[str]:
    return [
        word for item in items for cell in item.values() if cell is not None for word in str(cell).split()
    ]


@given(tables())
@settings(deadline=None, max_examples=50)
def test_every_word_of_a_table_is_printed_whole(
    capsys: pytest.CaptureFixture[str], shown: tuple[list[str], list[dict[str, Any]]]
) -> None:
    columns, items = shown

    lines = printed(capsys, columns, items, room=ROOM)

    there = sorted(word for line in lines for word in line.split())
    assert [word for word in words_of(items) if word not in there] == []
    # A line stands out over the edge only by its last cell, and the terminal keeps that in one piece.
    for line in lines:
        assert cell_len(line) <= ROOM or cell_len(line.rpartition("  ")[0]) <= ROOM


@given(tables())
@settings(deadline=None, max_examples=25)
def test_a_pipe_gets_one_line_for_each_item(
    capsys: pytest.CaptureFixture[str], shown: tuple[list[str], list[dict[str, Any]]]
) -> None:
    columns, items = shown

    lines = printed(capsys, columns, items, room=None)

    assert len(lines) == 1 + len(items)


def test_a_table_that_is_too_wide_becomes_blocks_without_empty_fields(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = [f"column_{number}" for number in range(8)]
    items = [{names[0]: "MICROSERVICE-CUSTOMER-UPDATES", names[1]: "every change of a customer", names[7]: 3}]

    lines = printed(capsys, names, items, room=ROOM)

    assert lines == [
        "column_0  MICROSERVICE-CUSTOMER-UPDATES",
        "column_1  every change of a customer",
        "column_7  3",
    ]


def test_values_that_are_no_text_are_printed_as_json_and_not_as_python(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = printed(capsys, ["a", "b", "c"], [{"a": {"x": None}, "b": ["y"], "c": True}], room=ROOM)

    assert lines[1].split() == ['{"x":null}', '["y"]', "yes"]


def test_an_empty_list_says_to_a_person_what_to_do_and_to_a_program_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.rows("table", ["name"], [], empty="There is none. Make one.")
    person = capsys.readouterr()
    output.rows("json", ["name"], [], empty="There is none. Make one.")
    program = capsys.readouterr()

    assert (person.out, person.err) == ("", "There is none. Make one.\n")
    assert (program.out, program.err) == ("[]\n", "")


def test_the_last_column_alone_may_stand_out_over_the_edge() -> None:
    rows = [["name", "value"], ["CUSTSVC_TOPIC_FAILED", "M" * 90]]

    assert table.fitted(rows, ROOM) == [20, 90]
    assert table.fitted([[cell, *row] for cell, row in zip("ab", rows, strict=True)], ROOM) is not None
    assert table.fitted([row[::-1] for row in rows], ROOM) is None
