"""`-o json` for every command: its result on stdout, and an error as one JSON object on stderr."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from hypothesis import given
from hypothesis import strategies as st

from custsvc.cli import anywhere, app, ending
from custsvc.cli.common import GlobalOptions, report

ROOT = typer.main.get_command(app)


def _paths(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    inner = getattr(command, "commands", {})
    if not inner:
        yield words
    for name, each in inner.items():
        yield from _paths(each, (*words, name))


FORMS = [["-o", "json"], ["-ojson"], ["--output=json"], ["--output", "json"]]
WORDS = ["keys", "create", "ann", "-q", "--", "-o", "json", "--debug", "-x"]
COMMANDS = sorted(_paths(ROOT))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_takes_it_and_says_a_wrong_argument_as_json(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    form = FORMS[len(" ".join(words)) % len(FORMS)]
    found = anywhere.read([*words, *form, "--no-such-option"], ROOT)

    code = ending.run(ROOT, found.arguments, as_json=found.fmt == "json")

    told = capsys.readouterr()
    assert (code, told.out) == (2, "")
    error = json.loads(told.err)
    assert error == {
        "error": "there is no option --no-such-option",
        "fix": error["fix"],
        "exit": 2,
    }
    assert error["fix"]


def test_an_error_is_one_line_of_json_without_control_characters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = ending.run(ROOT, ["customers", "get", "7", "--api", "ht\x1b[1mtp:\nx"], as_json=True)

    told = capsys.readouterr().err
    assert (code, json.loads(told)["exit"]) == (2, 2)
    assert "\x1b" not in told
    assert told.count("\n") == 1


@given(
    st.lists(
        st.sampled_from(["keys", "create", "ann", "-q", "--", "-o", "json", "--debug", "-x"]), max_size=8
    )
)
def test_arguments_after_two_dashes_belong_to_the_command(words: list[str]) -> None:
    found = anywhere.read(words, ROOT)

    if "--" in words:
        behind = words[words.index("--") :]
        assert found.arguments[-len(behind) :] == behind
    assert set(found.arguments) <= set(words)


def test_a_command_with_formats_of_its_own_keeps_them() -> None:
    kept = ["keys", "list", "-o", "csv"]
    assert anywhere.read(kept, ROOT) == anywhere.Given(frozenset(), "csv", kept)
    assert anywhere.read(["keys", "revoke", "-o", "json", "x"], ROOT).arguments == ["keys", "revoke", "x"]
    # A format that this command cannot print is refused by its parser, not ignored.
    assert anywhere.read(["keys", "revoke", "-o", "xml", "x"], ROOT).arguments[2:] == ["-o", "xml", "x"]


def test_a_result_is_a_sentence_for_people_and_facts_for_programs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report("revoked ab", revoked="ab")
    assert capsys.readouterr() == ("", "revoked ab\n")

    monkeypatch.setattr(GlobalOptions, "fmt", "json")
    report("revoked ab", revoked="ab")
    told = capsys.readouterr()
    assert (json.loads(told.out), told.err) == ({"revoked": "ab"}, "")
