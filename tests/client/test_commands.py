"""`custsvc customers`: the same over the API and at a database; a result for each line, whatever it holds."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.serving import make_server

from custsvc.accounts.keys import new_key
from custsvc.cli.customers import lines
from custsvc.client import Client
from custsvc.config import Settings
from custsvc.ports.store import Store
from custsvc.serve import create_app
from tests.processes import run_custsvc

Run = Callable[..., tuple[int, str, str]]
WAYS = [("database", "postgres"), ("database", "mongo"), ("api", "postgres")]
BAD = '\n{"name":""}\n{"nme":"x"}\n[]\nnot json\n{"name":"Bob","name":"Eve"}\n'
PEOPLE = f'\ufeff{{"name":"Ada"}}\n{BAD}{{"name":"Ann"}}'


@pytest.fixture
def over(request: pytest.FixtureRequest) -> str:
    return str(getattr(request, "param", "database"))


@pytest.fixture
def run(over: str, store: Store, backend: str, database_url: str, tmp_path: Path) -> Iterator[Run]:
    """Runs a command of customers: at the database, or over the API with a key that may write."""
    env = {"PATH": os.environ["PATH"], "CUSTSVC_LOCAL": "never", "CUSTSVC_LOG_LEVEL": "ERROR"}
    server = None
    if over == "database":
        env |= {f"CUSTSVC_{backend.upper()}_URL": database_url, "CUSTSVC_BACKEND": backend}
    else:
        text, key = new_key("cli", "write")
        store.keys.add(key)
        app = create_app(Settings(backend=store.name), store)  # type: ignore[arg-type]
        server = make_server("127.0.0.1", 0, app, threaded=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        env |= {"CUSTSVC_API_URL": f"http://127.0.0.1:{server.server_port}", "CUSTSVC_API_KEY": text}

    def run(*arguments: str, stdin: str = "", **more: str) -> tuple[int, str, str]:
        done = run_custsvc("customers", *arguments, env=env | more, cwd=tmp_path, stdin=stdin)
        return done.returncode, done.stdout, done.stderr

    yield run
    if server is not None:
        server.shutdown()


def results(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(("over", "backend"), WAYS, indirect=["over"])
def test_customers_are_made_changed_and_shown_the_same_everywhere(run: Run) -> None:
    code, out, err = run("create", stdin=PEOPLE)
    made = results(out)
    assert (code, err) == (8, "2 done, 5 failed\n")
    assert [each["line"] for each in made] == [1, 3, 4, 5, 6, 7, 8]
    assert [each["status"] for each in made] == [201, 400, 400, 400, 400, 400, 201]
    assert made[1]["error"]["errors"][0]["field"] == "name"
    ada, ann = made[0]["id"], made[-1]["id"]

    code, out, _ = run("list", "-o", "ndjson", "--sort", "-name")
    listed = results(out)
    assert [each["name"] for each in listed] == ["Ann", "Ada"]
    assert {each["created_by"] for each in listed} == {"cli"}

    # The listed customers are edited and sent back; meanwhile somebody changed one of them.
    assert run("update", str(ada), "--phone", "1", "--metadata", "tier=gold")[0] == 0
    edited = "\n".join(json.dumps({**each, "email": f"{each['name']}@example.org"}) for each in listed)
    code, out, _ = run("update", stdin=edited)
    assert [(each["id"], each["status"]) for each in results(out)] == [(ann, 200), (ada, 412)]

    code, out, _ = run("delete", stdin=f'{ada}\n{{"id":{ann},"version":1}}\n{ann}\n"x"\n{2**70}')
    assert [each["status"] for each in results(out)] == [204, 412, 204, 400, 400]
    code, _, err = run("get", str(ada))
    assert (code, err.splitlines()[1]) == (5, "fix: restore the customer first: custsvc customers restore ID")
    code, out, _ = run("restore", str(ada), "-o", "json")
    assert (code, json.loads(out)["metadata"]) == (0, {"tier": "gold"})
    code, out, _ = run("history", str(ada), "-o", "ndjson")
    assert [each["op"] for each in results(out)] == ["restored", "deleted", "updated", "created"]


@pytest.mark.parametrize(("over", "backend"), WAYS[1:], indirect=["over"])
def test_customers_are_merged_after_a_look_and_apart_again(run: Run) -> None:
    _, out, _ = run("create", stdin='{"name":"Ada"}\n{"name":"A.","phone":"1"}')
    ada, other = (str(each["id"]) for each in results(out))

    code, out, _ = run("merge", ada, other, "--dry-run", "-o", "json")
    assert (code, json.loads(out)["phone"]) == (0, "1")
    code, _, err = run("merge", ada, other)
    assert code == 2
    assert "--yes" in err
    code, out, _ = run("merge", ada, other, "--yes", "--email", "a@example.org", "-o", "json")
    assert (code, json.loads(out)["phone"], json.loads(out)["email"]) == (0, "1", "a@example.org")
    assert run("get", other)[0] == 5
    code, out, _ = run("unmerge", ada, "-o", "json")
    assert (code, json.loads(out)["phone"]) == (0, None)


@pytest.mark.parametrize(("over", "backend"), WAYS[1:], indirect=["over"])
def test_a_customer_goes_back_to_a_version_and_is_erased_after_a_look(run: Run, over: str) -> None:
    _, out, _ = run("create", "--name", "Ada", "--phone", "1", "-o", "json")
    ada = str(json.loads(out)["id"])
    run("update", ada, "--name", "Eve", "--phone", "2")

    code, out, _ = run("revert", ada, "--to", "1", "-o", "json")
    assert (code, json.loads(out)["name"], json.loads(out)["version"]) == (0, "Ada", 3)
    assert run("revert", ada, "--to", "9")[0] == 2
    assert run("revert", ada, "--to", "1", "--version", "1")[0] == 6
    code, _, err = run("erase", ada)
    assert code == 2
    assert "--yes" in err
    code, out, err = run("erase", ada, "--yes", "-o", "json")
    if over == "api":  # its key may only write
        assert (code, "role admin" in err) == (3, True), err
        return
    assert (code, json.loads(out)["phone"]) == (0, None)
    assert "Eve" not in run("history", ada, "-o", "json")[1]


def test_a_run_with_a_key_is_repeated_without_doing_anything_twice(
    run: Run, store: Store, backend: str
) -> None:
    lines = '{"name":"Ada"}\n{"name":""}\n{"name":"Ann"}\n'
    _, first, _ = run("create", "--key", "load-7", stdin=lines)
    # The wrong line is corrected, and the file sent again as a whole.
    code, second, _ = run("create", "--key", "load-7", stdin=lines.replace('""', '"Bob"') + '{"name":"Eve"}')

    assert code == 0
    assert [each["status"] for each in results(second)] == [201, 201, 201, 201]
    assert [results(first)[n]["id"] for n in (0, 2)] == [results(second)[n]["id"] for n in (0, 2)]
    assert store.customers.count() == 4


@pytest.mark.parametrize(("over", "backend"), WAYS[:1], indirect=["over"])
def test_an_error_has_the_exit_code_and_the_fix(run: Run, backend: str) -> None:
    assert run("update", "7", "--phone", "1")[0] == 5
    assert run("create", "--name", "Ada", "--email", "nobody")[0] == 2
    assert run("update", "7")[0] == 2
    assert run("list", "--api", "http://127.0.0.1:1", "--backend", "mongo")[0] == 2
    code, _, err = run("get", "7", CUSTSVC_API_URL="nowhere")
    assert (code, err.splitlines()[1]) == (
        3,
        "fix: give it as http://localhost:8000 or https://customers.example.org",
    )


@pytest.mark.parametrize("backend", ["postgres"])
def test_at_a_copy_customers_are_shown_and_not_changed(run: Run, store: Store, backend: str) -> None:
    store.claim_role("copy")

    assert run("list", "-o", "json")[:2] == (0, "[]\n")
    code, _, err = run("create", "--name", "Ada")
    assert code == 3
    assert "is a copy" in err


JSON_LINES = st.one_of(
    st.binary(max_size=20).filter(lambda line: b"\n" not in line),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("id name email".split()), inner)
        ),
        max_leaves=4,
    ).map(lambda value: json.dumps(value).encode()),
)


@settings(max_examples=40)
@given(st.lists(JSON_LINES, max_size=6), st.sampled_from(["create", "update", "delete", "restore"]))
@pytest.mark.parametrize("backend", ["postgres"])
def test_any_input_lines_have_one_result_each(
    client: Client, backend: str, given_lines: list[bytes], op: lines.Op
) -> None:
    tally = lines.Tally()
    found = list(lines.run(client, op, io.BytesIO(b"\n".join(given_lines)), tally))

    assert [each["line"] for each in found] == [n for n, line in enumerate(given_lines, 1) if line.strip()]
    assert tally.done + tally.failed == len(found)
    assert tally.failed == sum(each["error"] is not None for each in found)


def test_lines_are_done_as_they_come_and_together_where_they_wait(client: Client) -> None:
    reading, writing = os.pipe()
    found: list[dict[str, Any]] = []
    with os.fdopen(reading, "rb") as source, os.fdopen(writing, "wb", buffering=0) as pipe:
        coming = lines.run(client, "create", source, lines.Tally())
        pipe.write(b'{"name":"first"}\n')
        found.append(next(coming))
        pipe.write(b'{"name":"more"}\n' * 500)
        pipe.close()
        found += coming

    assert [each["line"] for each in found] == list(range(1, 502))
    assert {each["status"] for each in found} == {201}


def test_a_line_that_is_too_long_is_wrong_and_the_next_is_not(client: Client) -> None:
    long = b'{"name":"' + b"x" * lines.LINE_MAX * 2 + b'"}\n'
    found = list(lines.run(client, "create", io.BytesIO(long + b'{"name":"Ada"}'), lines.Tally()))

    assert [each["status"] for each in found] == [400, 201]
