"""Export and import over HTTP: formats, limits, filters, resuming, and what is refused."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from custsvc.config import Settings
from custsvc.ports.store import Store
from custsvc.serve import create_app

from .conftest import Client

NDJSON = "application/x-ndjson"


def send(client: Client, rows: Any, query: str = "", **kwargs: Any) -> Any:
    text = rows if isinstance(rows, bytes) else b"\n".join(json.dumps(row).encode() for row in rows)
    return client.post(f"/api/customers/import{query}", data=text, content_type=NDJSON, **kwargs)


def test_the_format_is_that_of_the_parameter_or_of_accept(client: Client) -> None:
    client.create(name="Ann")

    for query, accept, media in (
        ("?format=csv", "application/json", "text/csv; charset=utf-8"),
        ("?format=ndjson", None, NDJSON),
        ("", "text/csv", "text/csv; charset=utf-8"),
        ("", NDJSON, NDJSON),
        ("", "application/jsonl", NDJSON),
        ("", None, "application/json"),
        ("", "*/*", "application/json"),
    ):
        answer = client.get("/api/customers/export" + query, headers={"Accept": accept} if accept else {})

        assert (answer.status_code, answer.content_type) == (200, media), (query, accept)
        assert "Ann" in answer.text
        assert "attachment" in answer.headers["Content-Disposition"]


def test_an_export_is_what_the_list_shows(client: Client) -> None:
    for name in ("Ann", "Bob", "Annabel"):
        client.create(name=name, metadata={"city": "Lima" if name != "Bob" else "Oslo"})
    for query in ("?q=ann", "?metadata.city=Lima&sort=-name", "?deleted=only", "?fields=id,name"):
        shown = client.get("/api/customers/" + query).json["results"]
        assert client.get("/api/customers/export" + query).json == shown, query


def test_wrong_parameters_of_an_export_are_refused(client: Client) -> None:
    for query in ("?format=xls", "?limit=5", "?sort=phone", "?fields=secret", "?cursor=x", "?updated__gte=x"):
        assert client.get("/api/customers/export" + query).status_code == 400, query


def test_no_more_exports_run_than_there_is_room_for(store: Store) -> None:
    app = create_app(Settings(backend=store.name, auth="off", streams=1), store)  # type: ignore[arg-type]
    client = app.test_client()
    first = client.get("/api/customers/export")

    assert client.get("/api/customers/export").json["code"] == "too-many-streams"
    first.close()
    assert client.get("/api/customers/export").status_code == 200


def test_a_file_is_planned_and_then_imported(client: Client) -> None:
    customer = client.create(name="Ann")
    rows = [{"id": customer["id"], "name": "Anna"}, {"name": "Bob"}]

    plan = send(client, rows, "?dry_run=true").json
    assert client.get("/api/customers/").json["count"] == 1
    done = send(client, rows, f"?plan={plan['plan']}").json

    assert plan["counts"] == done["counts"] | {"create": 1, "update": 1}
    assert (plan["dry_run"], done["dry_run"]) == (True, False)
    assert [c["name"] for c in client.get("/api/customers/").json["results"]] == ["Anna", "Bob"]
    stale = send(client, rows, f"?plan={plan['plan']}")
    assert (stale.status_code, stale.json["code"]) == (409, "plan-changed")


def test_wrong_rows_are_a_problem_that_names_them(client: Client) -> None:
    answer = send(client, [{"name": "Ann"}, {"name": "Bob", "email": "nobody"}])

    assert (answer.status_code, answer.json["code"]) == (400, "import-refused")
    assert answer.json["errors"][0] | {"message": ""} == {
        "field": "rows[2].email",
        "code": "invalid_email",
        "message": "",
    }
    assert answer.json["report"]["counts"]["error"] == 1
    assert client.get("/api/customers/").json["count"] == 0
    assert send(client, [{"name": "Ann"}, {"name": ""}], "?skip_errors=true").json["counts"]["create"] == 1


def test_csv_is_imported(client: Client) -> None:
    answer = client.post(
        "/api/customers/import?on=email", data="name,email\nAnn,ann@example.org\n", content_type="text/csv"
    )

    assert answer.json["counts"]["create"] == 1
    broken = client.post("/api/customers/import", data="name,age\nAnn,7\n", content_type="text/csv")
    assert (broken.status_code, broken.json["errors"][0]["code"]) == (400, "unknown_column")


def test_the_same_request_sent_again_imports_once(client: Client) -> None:
    key = {"Idempotency-Key": "import-1"}

    first = send(client, [{"name": "Ann"}], headers=key)
    again = send(client, [{"name": "Ann"}], headers=key)
    other = send(client, [{"name": "Bob"}], headers=key)

    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json["counts"] == first.json["counts"]
    assert (other.status_code, other.json["code"]) == (422, "idempotency-mismatch")
    assert client.get("/api/customers/").json["count"] == 1


def test_a_file_may_be_larger_than_another_body_but_not_endless(client: Client) -> None:
    rows = b'{"name":"%b"}\n' % (b"n" * 300) * 6000  # 1.9 MB

    assert send(client, rows, "?dry_run=true").json["counts"]["create"] == 6000

    answer = send(client, rows * 40)
    assert (answer.status_code, answer.json["code"]) == (413, "too-large")
    assert "64 MB" in answer.json["detail"]


def test_a_long_body_without_a_length_is_refused_too(store: Store) -> None:
    settings = Settings(backend=store.name, auth="off", import_max_mb=1)  # type: ignore[arg-type]
    client = create_app(settings, store).test_client()
    body = io.BytesIO(b'{"name":"Ann"}\n' * 100_000)

    answer = client.post(
        "/api/customers/import",
        input_stream=body,
        content_type=NDJSON,
        environ_overrides={"wsgi.input_terminated": True},
        headers={"Transfer-Encoding": "chunked"},
    )

    assert (answer.status_code, answer.json["code"]) == (413, "too-large")
    assert client.get("/api/customers/").json["count"] == 0


@pytest.mark.parametrize("media", ["application/json", "text/plain", ""])
def test_another_type_of_body_is_refused(media: str, client: Client) -> None:
    answer = client.post("/api/customers/import", data="{}", content_type=media)

    assert (answer.status_code, answer.json["code"]) == (415, "unsupported-media-type")
    assert "text/csv" in answer.headers["Accept-Post"]
