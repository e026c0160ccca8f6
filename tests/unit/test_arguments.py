"""A wrong argument of any command: exit code 2, one line that says what is wrong, one that says what to do.

It is found before an address is looked up or a server is asked: these tests have neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
import typer.main
from hypothesis import given
from hypothesis import strategies as st

from custsvc.cli import app, ending
from custsvc.errors import BadArgument
from custsvc.kafka.tail import parse_time

COMMAND = typer.main.get_command(app)

# A wrong value of each option that takes one, and of each argument; None where every text is right.
WRONG: dict[str, str | None] = {
    **dict.fromkeys(
        ("--backend", "--copy-backend", "--source", "--auth", "--log-format", "--log-level"), "maybe"
    ),
    **dict.fromkeys(("--deleted", "--empty", "--format", "--metadata", "--on", "--on-unknown"), "maybe"),
    **dict.fromkeys(("--only", "--op", "--output", "--role", "--sample", "--stage", "--state"), "maybe"),
    **dict.fromkeys(("--from", "--since", "--until", "--expires", "--copies", "--without"), "maybe"),
    **dict.fromkeys(("--count", "--events", "--customers", "--limit", "--partitions", "--replication"), "0"),
    "--shards": "0",
    **dict.fromkeys(("--port", "--workers", "--threads", "--seconds", "--rate", "--timeout", "--days"), "0"),
    **dict.fromkeys(("--customer", "ids of replay"), "9223372036854775808"),
    **dict.fromkeys(("--max-age", "--wait"), "-1"),
    **dict.fromkeys(("--class", "--detail", "--event", "--host", "--instance-id", "--key"), None),
    **dict.fromkeys(("--plan", "--principal", "--rule", "--to"), None),
    **dict.fromkeys(
        ("ids", "id", "key", "name", "folder", "which of sessions revoke", "mail", "import_id"), None
    ),
    **dict.fromkeys(("--encoding", "--delimiter", "--map", "--others", "--updated-since", "--at"), "maybe"),
    **dict.fromkeys(("--sort", "--clear", "--api", "--fields"), "maybe"),
    **dict.fromkeys(("--sheet", "--email", "--name", "--phone", "--q of customers list"), None),
    **dict.fromkeys(("--limit of customers list", "--limit of duplicates", "--limit of webhooks log"), "-1"),
    **dict.fromkeys(("--min-score", "--dismissed"), "2"),
    **dict.fromkeys(("--dismiss", "--undismiss", "--to of customers revert"), "0"),
    **dict.fromkeys(("into", "others"), "0"),
    "--archive": None,
    "--backend of mcp": None,
    "--compatibility": "maybe",
    "--keep": "3d",
    "customer": "0",
    "--map-file": "no/such/file",
    "--version": "0",
    "--copy": "Not one",
    "--data-dir": "file",
    "--q": " ",
    "--reason of notify suppressions add": "maybe",
    "--reason": None,
    "--rules": "no/such/file",
    "--save": ".",
    "--seed": "many",
    "addresses": "nobody",
    "addresses of notify suppressions remove": None,
    "count": "0",
    "event": None,
    **dict.fromkeys(("email", "--email of users create"), "nobody"),
    "file": "no/such/folder/customers.csv",
    "files": "no/such/file.ndjson.gz",
    "name of users create": "a b",
    "role": "maybe",
    "to": "nobody",
    "which": "maybe",
    **dict.fromkeys(("endpoint", "delivery", "--description", "--runbooks", "--changed"), None),
    **dict.fromkeys(("--ops", "--payload", "--when", "url", "--url"), "maybe"),
    "--overlap": "-1",
}
# A right value of what a command cannot do without.
RIGHT = {
    "addresses": "ann@example.com",
    "count": "5",
    "file": "customers.csv",
    "folder": "here",
    "id": "dead-1",
    "key": "billing",
    "name": "ann",
    "role": "read",
    "to": "ann@example.com",
    "url": "https://crm.example.com/hook",
    "endpoint": "ep-1",
    "delivery": "d-1",
}


def each_wrong() -> Iterator[Any]:
    def walk(command: Any, words: list[str]) -> Iterator[Any]:
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, [*words, name])
        needed = [p for p in command.params if p.param_type_name == "argument" and p.required]
        for param in command.params:
            if getattr(param, "is_flag", False):
                continue
            name = max(param.opts, key=len)
            wrong = WRONG.get(f"{name} of {' '.join(words)}", WRONG.get(name, "UNKNOWN"))
            if wrong is None:
                continue
            given = [RIGHT.get(p.name, "2") for p in needed if p is not param]
            said = [wrong] if param.param_type_name == "argument" else [name, wrong]
            yield pytest.param([*words, *given, *said], id=" ".join([*words, name]))

    yield from walk(COMMAND, [])


@pytest.mark.parametrize("words", list(each_wrong()))
def test_a_wrong_argument_is_exit_code_2_with_one_line_of_error_and_one_of_fix(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "UNKNOWN" not in words, "say in WRONG which value is wrong for it"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUSTSVC_LOCAL", "never")
    (tmp_path / "file").touch()

    code = ending.run(COMMAND, words)

    said = capsys.readouterr()
    assert (code, said.out) == (2, "")
    error, fix = said.err.splitlines()
    assert error.startswith("error: ")
    assert fix.startswith("fix: ")
    assert not any(
        word in said.err
        for word in ("Invalid value", "Input should", "Usage:", "Traceback", "ValidationError")
    )


@pytest.mark.parametrize(
    ("words", "error", "fix"),
    [
        (["stauts"], "there is no command stauts", "did you mean custsvc status?"),
        (["topics", "lst"], "there is no command lst", "did you mean custsvc topics list?"),
        (["serve", "--prot", "80"], "there is no option --prot", "did you mean --port?"),
        (["seed"], "N is missing", "custsvc seed --help"),
        (["down", "it"], "more arguments than there are: it", "custsvc down --help"),
        (["keys", "create", "ann", "--role", "x"], "--role: 'x' is not one of", "custsvc keys create --help"),
        (["seed", "many"], "N must be a whole number", "custsvc seed --help"),
        (["verify", "--wait=-1"], "--wait must be at least 0", "custsvc verify --help"),
        (
            ["seed", "5", "--log-level", "loud"],
            "--log-level is 'loud', but it must be",
            "give --log-level DEBUG",
        ),
    ],
)
def test_a_wrong_name_is_reported_with_the_nearest_right_one(
    words: list[str], error: str, fix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ending.run(COMMAND, words) == 2

    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith(f"error: {error}")
    assert said[1].startswith(f"fix: {fix}")


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    "words",
    [
        ["webhooks", "show", "x\udcffy"],
        ["customers", "list", "--q", "x\udcffy"],
        ["customers", "list", "--q=\ud800"],
        ["topics", "acls", "--principal", "x\udcffy"],
        ["x\udcffy"],
        ["status", "--x\udcffy", "1"],
        ["import", "x\udcffy.csv"],
    ],
)
def test_bytes_that_are_no_text_are_refused_in_any_argument(
    words: list[str], as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ending.run(COMMAND, words, as_json=as_json) == 2

    error, *rest = capsys.readouterr().err.splitlines()
    assert "is not UTF-8" in error
    assert not as_json or orjson.loads(error)["exit"] == 2
    assert all(line.startswith("fix: ") for line in rest)


def test_a_file_whose_name_is_no_text_is_a_file_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUSTSVC_LOCAL", "never")
    rules = tmp_path / "r\udcffles.toml"
    rules.write_text("[[rule]]\nname = 1\n")

    assert ending.run(COMMAND, ["notify", "preview", "--sample", "updated", f"--rules={rules}"]) == 3

    assert "is not UTF-8" not in capsys.readouterr().err


@given(st.one_of(st.text(), st.from_regex(r"-?[0-9]{1,25}(e[0-9]{1,3})?[smhd]", fullmatch=True)))
def test_any_text_is_a_time_with_a_zone_or_a_wrong_argument(text: str) -> None:
    with suppress(BadArgument):
        assert parse_time(text).tzinfo is not None
