"""A change made over HTTP travels: into the other database, onto the topic, into a mailbox."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import until

from .stack import COMMAND, Stack, clean_environment


# A whole custsvc costs a minute of a processor. In the suite test_kill.py has the other direction.
@pytest.fixture(scope="module", params=["postgres", pytest.param("mongo", marks=pytest.mark.long)])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("flow"), request.param, "--ephemeral") as running:
        yield running


def create(stack: Stack, **fields: Any) -> dict[str, Any]:
    status, body, _ = stack.request(
        "POST", "/api/customers/", {"name": "Ada", "email": "ada@example.com"} | fields
    )
    assert status == 201, body
    return dict(body)


def copied(stack: Stack, customer: dict[str, Any]) -> bool:
    found = stack.copied(customer["id"])
    return found is not None and json.loads(found[1]) == customer


def events(stack: Stack, customer_id: int) -> list[dict[str, Any]]:
    tail = stack.run(
        "tail-events", "--from", "beginning", "--exit", "--customer", str(customer_id), "-o", "ndjson"
    )
    return [json.loads(line)["event"] for line in tail.stdout.splitlines()]


def test_a_new_customer_is_in_the_copy_on_the_topic_and_in_the_mailbox(stack: Stack) -> None:
    create(stack, email="warm@example.com")
    until("the pipeline is warm", lambda: stack.subjects("warm@example.com"))

    customer = create(stack, email="new@example.com")

    until("the copy has it", lambda: copied(stack, customer))
    until("the mail is there", lambda: stack.subjects("new@example.com"))
    (event,) = events(stack, customer["id"])
    assert (event["op"], event["before_change"], event["after_change"]) == ("created", None, customer)


def test_put_patch_and_delete_travel_with_the_state_before_and_after(stack: Stack) -> None:
    first = create(stack, email="old@example.com")
    path = f"/api/customers/{first['id']}/"

    _, second, _ = stack.request("PUT", path, first | {"phone": "+1 555"})
    _, third, _ = stack.request("PATCH", path, {"email": "moved@example.com"})
    status, _, _ = stack.request("DELETE", path)

    assert status == 204
    fourth = third | {"deleted": True, "version": 4}
    until(
        "the copy has it as deleted",
        lambda: (stack.copied(first["id"]) or (0, ""))[0] == 4,
    )
    seen = events(stack, first["id"])
    assert [e["op"] for e in seen] == ["created", "updated", "updated", "deleted"]
    assert [e["before_change"] for e in seen] == [None, first, second, third]
    assert [e["after_change"] for e in seen[:3]] == [first, second, third]
    last = seen[3]["after_change"]
    assert last | {"updated_on": "", "updated_by": ""} == fourth | {"updated_on": "", "updated_by": ""}
    until("both addresses were told", lambda: len(stack.subjects("old@example.com")) >= 3)
    until("goodbye was said", lambda: len(stack.subjects("moved@example.com")) >= 2)


def test_a_crowd_of_made_up_customers_is_copied_and_verify_says_so(stack: Stack) -> None:
    stack.run("seed", "5000", "--seed", "3")

    done = stack.run("verify", "--wait", "60")

    assert "all identical" in done.stderr
    assert not stack.check({}).problems


def test_verify_names_a_copy_that_was_tampered_with(stack: Stack) -> None:
    customer = create(stack, email=None)
    until("the copy has it", lambda: copied(stack, customer))
    stack.run("verify", "--wait", "60")
    _tamper(stack, customer["id"])

    done = stack.run("verify", "-o", "json", "--wait", "10", check=False)

    assert done.returncode == 7
    (row,) = json.loads(done.stdout)
    assert (row["customer_id"], row["kind"], row["fields"]) == (customer["id"], "differs", ["name"])
    _tamper(stack, customer["id"], back=True)


def test_status_shows_every_step(stack: Stack) -> None:
    steps = {row["step"] for row in json.loads(stack.run("status", "-o", "json").stdout)}

    assert {"outbox", f"custsvc-copy-{stack.copy}", "custsvc-notify", "notifications"} <= steps


def test_a_second_up_on_the_same_folder_is_refused_with_the_fix(stack: Stack) -> None:
    again = subprocess.run(
        [*COMMAND, "up", "--data-dir", str(stack.data_dir)],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert again.returncode == 3
    assert again.stderr.splitlines()[0].startswith("error: custsvc up already runs")
    assert again.stderr.splitlines()[1].startswith("fix: ")


def test_up_leaves_no_process_behind(stack: Stack) -> None:
    """The last one of these: after it nothing runs."""
    names = ["serve", "relay", "replicate", "notify", "postgres", "mongo", "kafka", "mail"]
    pids = [pid for name in names if (pid := stack.pid(name))]
    assert len(pids) == len(names)

    stack.stop()

    until("all processes are gone", lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def _tamper(stack: Stack, customer_id: int, *, back: bool = False) -> None:
    """Change one name in the copy behind everybody's back, or change it back."""
    old, new = ('"name":"Ada"', '"name":"Eve"')
    if back:
        old, new = new, old
    if stack.copy == "postgres":
        import psycopg2

        connection = psycopg2.connect(stack.env["CUSTSVC_POSTGRES_URL"])
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "UPDATE customer SET doc = replace(doc, %s, %s) WHERE id = %s", (old, new, customer_id)
            )
        connection.close()
        return
    import pymongo

    with pymongo.MongoClient[dict[str, Any]](stack.env["CUSTSVC_MONGO_URL"]) as client:
        table = client.get_default_database().customer
        found = table.find_one({"_id": customer_id})
        assert found is not None
        doc = found["doc"]
        table.update_one({"_id": customer_id}, {"$set": {"doc": doc.replace(old, new)}})
