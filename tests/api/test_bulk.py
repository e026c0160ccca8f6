"""Export and import over HTTP: formats, limits, filters, resuming, and refusals."""

from __future__ import annotations

import io
import json
from typing import Any

import orjson
import pytest

from custsvc.config import Settings
from custsvc.ports.store import Store
from custsvc.serve import create_app
from custsvc.transfer import likely
from tests.transfer.styles import DATA, OBJECTS, PEOPLE, STYLES

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


def test_an_export_has_the_customers_of_the_list(client: Client) -> None:
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
    client: Any = app.test_client()
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


def test_the_same_bytes_in_another_encoding_are_another_import(client: Client) -> None:
    def post(charset: str) -> Any:
        kind, key = f"text/csv{charset}", {"Idempotency-Key": "import-1"}
        rows = "name\nZoë\n".encode()
        return client.post("/api/customers/import", data=rows, content_type=kind, headers=key)

    done = [post(charset) for charset in ("", "; charset=UTF-8", "; charset=latin-1")]

    assert [each.status_code for each in done] == [200, 200, 422]
    assert client.get("/api/customers/").json["count"] == 1


def test_a_file_may_be_larger_than_another_body_but_not_endless(client: Client) -> None:
    rows = b'{"name":"%b"}\n' % (b"n" * 300) * 6000  # 1.9 MB

    assert send(client, rows, "?dry_run=true").json["counts"]["create"] == 6000

    answer = send(client, rows * 40)
    assert (answer.status_code, answer.json["code"]) == (413, "too-large")
    assert "64 MB" in answer.json["detail"]


def test_a_long_body_without_a_length_is_refused_too(store: Store) -> None:
    settings = Settings(backend=store.name, auth="off", import_max_mb=1)  # type: ignore[arg-type]
    client: Any = create_app(settings, store).test_client()
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


@pytest.mark.parametrize("media", ["application/xml", "text/plain", ""])
def test_another_type_of_body_is_refused(media: str, client: Client) -> None:
    answer = client.post("/api/customers/import", data="{}", content_type=media)

    assert (answer.status_code, answer.json["code"]) == (415, "unsupported-media-type")
    assert "text/csv" in answer.headers["Accept-Post"]


def test_files_of_other_programs_are_imported_as_they_come(client: Client) -> None:
    first, *others = STYLES

    def put(style: str, others: str) -> Any:
        return client.post(
            f"/api/customers/import?on=email&others={others}",
            data=(DATA / style).read_bytes(),
            content_type="application/octet-stream",
        ).json

    report = put(first, "metadata")
    found = [(c["name"], c["email"], c["phone"]) for c in client.get("/api/customers/").json["results"]]

    assert report["counts"]["create"] == 3, report
    assert report["file"]["columns"][1] == {"column": "First Name", "field": "first_name"}
    assert found == PEOPLE
    for style in others:
        counts = put(style, "skip")["counts"]
        assert counts["same"] + counts["update"] * (style in OBJECTS) == 3, style


def test_the_format_of_a_file_can_be_given(client: Client) -> None:
    def put(query: str, text: str, encoding: str, media: str = "text/csv") -> Any:
        return client.post(
            f"/api/customers/import?dry_run=true&{query}", data=text.encode(encoding), content_type=media
        ).json

    text = "Wer|Nummer\nZoë|1\n"
    mapped = "map=Wer%3Dname&map=%232%3Dphone&delimiter=|"
    by_parameter = put(f"{mapped}&encoding=cp850", text, "cp850")
    by_charset = put(mapped, text, "iso-8859-1", "text/csv; charset=iso-8859-1")
    by_format = put("format=json", '[{"name":"Zoë"}]', "utf-8", "text/plain")

    for report in (by_parameter, by_charset, by_format):
        assert [row["name"] for row in report["rows"]] == ["Zoë"], report
    assert by_parameter["file"]["columns"][1] == {"column": "Nummer", "field": "phone"}
    for query in ("format=xls", "encoding=klingon", "delimiter=xx", "others=keep", "map=x", "map=a%3Dage"):
        assert put(query, text, "utf-8")["errors"][0]["field"] == query.partition("=")[0], query


def test_an_export_for_excel_and_one_of_vcards(client: Client) -> None:
    client.create(name="Zoë", metadata={"city": "Köln"})
    path = "/api/customers/export"

    sheet = client.get(path + "?format=csv&bom=true&delimiter=;&fields=name,metadata.city")
    cards = client.get(path, headers={"Accept": "text/vcard"})

    assert sheet.data == "\ufeffname;metadata.city\r\nZoë;Köln\r\n".encode()
    assert (cards.content_type, "FN:Zoë" in cards.text) == ("text/vcard; charset=utf-8", True)
    assert 'filename="customers.vcf"' in cards.headers["Content-Disposition"]
    for query in ("?format=json&fields=metadata.city", "?delimiter=xx", "?bom=2"):
        assert client.get(path + query).status_code == 400, query


def test_an_import_is_listed_and_undone(client: Client) -> None:
    known = client.create(name="Ann", phone="1")
    report = send(client, [{"id": known["id"], "phone": "2"}, {"name": "Bob"}]).json
    path = f"/api/customers/imports/{report['import']}/undo"

    (listed,) = client.get("/api/customers/imports").json["results"]
    planned = client.post(path + "?dry_run=true")
    done = client.post(path)

    assert (listed["id"], listed["counts"]["update"], listed["undone"]) == (report["import"], 1, False)
    expected = {"delete": 1, "revert": 1, "trash": 0, "restore": 0, "left": 0}
    assert planned.json["counts"] == done.json["counts"] == expected
    assert [(c["name"], c["phone"]) for c in client.get("/api/customers/").json["results"]] == [("Ann", "1")]
    assert client.post(path).status_code == 409
    assert client.post("/api/customers/imports/nothing/undo").status_code == 404


def test_a_spoilt_cell_is_a_warning_and_its_row_is_imported_without_it(client: Client) -> None:
    content = (DATA / "spoilt.csv").read_bytes()
    report = client.post("/api/customers/import", data=content, content_type="text/csv").json

    assert (report["counts"]["create"], report["warnings"], report["file"]["unwrapped"]) == (4, 4, 1)
    assert report["rows"][0]["warnings"][0]["value"] == "4.42079E+11"
    assert client.get("/api/customers/?sort=id").json["results"][0]["phone"] is None


def test_a_dry_run_names_the_customers_that_new_rows_likely_are(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likely, "LOOKED_AT", 3)
    ada = client.create(name="Ada Lovelace", email="ada@example.org")["id"]
    rows = [
        {"name": "Ada Lovelace", "email": "ADA@example.org"},
        {"id": ada, "name": "Ada Lovelace", "email": "ada@example.org", "phone": "1"},
        {"name": "Bob Ray"},
        {"name": ""},
        {"name": "Eve Day"},
        {"name": "A. Lovelace", "email": "ada@example.org"},
    ]

    plan = send(client, rows, "?dry_run=true&skip_errors=true").json
    done = send(client, rows, "?skip_errors=true").json

    assert plan["duplicates"] == {"rows": 1, "looked_at": 3}  # the last row is the fourth that adds somebody
    assert [row["duplicates"] for row in plan["rows"]] == [[ada], [], [], [], [], []]
    assert (done["duplicates"], done["plan"]) == (None, plan["plan"])


def test_an_import_marks_its_events_unless_mails_are_asked_for(client: Client, store: Store) -> None:
    answers = [
        send(client, [{"name": "Ann", "email": "ann@example.com"}], query)
        for query in ("", "?mails=no", "?mails=yes", "?mails=true", "?dry_run=true")
    ]
    wrong = send(client, [{"name": "Ann"}], "?mails=some")

    marks = [
        orjson.loads(store.customers.history(row.id, limit=1)[0]).get("bulk", False)
        for row in store.contents.scan(0, 10)
    ]
    assert marks == [True, True, False, False]
    assert [answer.json["mails"] for answer in answers] == [False, False, True, True, False]
    assert {answer.json["mails_by_rules"] for answer in answers} == {1}
    assert wrong.status_code == 400
