"""The story of the contract: what is asked of an installation, and with which status it is answered.

`test_contract` tells it to both backends and compares what they say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson

from .teller import Teller

TRACE: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
BASE: Final = "/api/customers/"
ONE: Final = f"{BASE}1"
PATCH: Final = "application/merge-patch+json"
NDJSON: Final = "application/x-ndjson"
ANN: Final = {
    "name": "Ann Lee",
    "email": "Ann@EXAMPLE.org",
    "phone": "+49 30 1",
    "metadata": {"tier": "gold"},
}


def story(tell: Teller) -> None:
    """The part that needs the database alone: each route, verb, status, header, filter and problem."""
    creating(tell)
    one_customer(tell)
    there_and_back(tell)
    many_at_once(tell)
    lists(tell)
    merging(tell)
    alike(tell)
    erasing(tell)
    in_bulk(tell)
    under_old_names(tell)
    told_otherwise(tell)
    about(tell)


def creating(tell: Teller) -> None:
    """201 with Location and ETag; under a key, minimally, wrongly."""
    first = tell(201, "POST", BASE, json=ANN, headers={"traceparent": TRACE})
    assert first.headers["Location"] == f"{ONE}/"
    assert (first.headers["ETag"], first.headers["X-Custsvc-Position"]) == ('"v1"', "1-1")
    keyed = {"Idempotency-Key": "k1"}
    tell(201, "POST", BASE.rstrip("/"), json={"name": "Zoë"}, headers=keyed)
    assert tell(201, "POST", BASE, json={"name": "Zoë"}, headers=keyed).headers["Idempotency-Replayed"]
    tell(422, "POST", BASE, json={"name": "Other"}, headers=keyed)
    tell(201, "POST", BASE, json={"name": "Émile", "email": None}, headers={"Prefer": "return=minimal"})
    tell(201, "POST", "/customers", json={"name": "Old client", "phone": "1", "email": "o@example.com"})
    tell(400, "POST", BASE, json={"name": "", "email": "no", "colour": 1})
    tell(400, "POST", BASE, data="{", content_type="application/json")
    tell(415, "POST", BASE, data="name=x", content_type="application/x-www-form-urlencoded")
    tell(501, "POST", BASE, json=ANN, headers={"If-None-Match": "*"})
    tell(413, "POST", BASE, data=b" " * 1048577, content_type="application/json")
    tell(400, "POST", BASE, json={"name": "x"}, headers={"Idempotency-Key": "a b"})


def one_customer(tell: Teller) -> None:
    """Reading and changing one, with and without conditions."""
    for path in (ONE, f"{ONE}/", "/customers/1", "/customers/1/"):
        tell(200, "GET", path)
        tell(200, "HEAD", path)
    tell(200, "GET", ONE, by="other header")
    for method in ("GET", "HEAD"):
        tell(304, method, ONE, headers={"If-None-Match": '"v1"'})
        tell(404, method, f"{BASE}99")
    tell(200, "GET", ONE, headers={"If-None-Match": '"v2"'})
    tell(200, "GET", ONE, headers={"X-Custsvc-Min-Position": "1-1", "Prefer": "wait=1"})
    tell(400, "GET", ONE, headers={"X-Custsvc-Min-Position": "1"})
    for method in ("PUT", "PATCH"):
        tell(404, method, f"{BASE}99", json=ANN)
    tell(404, "DELETE", f"{BASE}99")
    tell(404, "GET", f"{BASE}x")
    tell(400, "GET", f"{ONE}?x=1")
    tell(405, "POST", ONE, json=ANN)
    tell(401, "GET", ONE, by="stranger")
    tell(403, "PUT", ONE, by="reader", json=ANN)
    sent_back = {**ANN, "id": 7, "version": 9, "phone": "+49 30 2"}
    tell(200, "PUT", ONE, json=sent_back, headers={"If-Match": '"v1"'})
    tell(412, "PUT", ONE, json=ANN, headers={"If-Match": '"v1"'})
    tell(400, "PUT", ONE, json=ANN, headers={"If-Match": "v1"})
    tell(412, "PUT", ONE, json=ANN, headers={"If-None-Match": "*"})
    tell(200, "PATCH", ONE, data='{"metadata":{"vip":true}}', content_type=PATCH)
    tell(200, "PATCH", ONE, json={"name": "Ann Smith"}, headers={"If-Match": '"v3"'})
    tell(204, "PATCH", ONE, json={"name": "Ann Smith"}, headers={"Prefer": "return=minimal"})
    representation = {"Prefer": "return=representation", "If-Match": "*"}
    tell(200, "PUT", f"{ONE}/", json={**ANN, "name": "Ann Smith"}, headers=representation)


def there_and_back(tell: Teller) -> None:
    """Deleting, restoring, going back, and what was."""
    tell(204, "DELETE", ONE)
    tell(204, "DELETE", ONE)
    tell(404, "GET", ONE)
    tell(404, "PUT", ONE, json=ANN)
    tell(200, "POST", f"{ONE}/restore")
    tell(200, "POST", f"{ONE}/restore/")
    tell(404, "POST", f"{BASE}99/restore")
    for _ in range(2):
        tell(200, "POST", f"{ONE}/revert", json={"version": 1}, headers={"Idempotency-Key": "k2"})
    tell(400, "POST", f"{ONE}/revert", json={"version": 99})
    tell(404, "POST", f"{BASE}99/revert", json={"version": 1})
    tell(200, "GET", f"{ONE}/history")
    tell(200, "GET", tell(200, "GET", f"{ONE}/history/?limit=2").json["next"])
    tell(200, "GET", f"{ONE}/history?at=2026-11-23T00:00:03Z")
    tell(404, "GET", f"{ONE}/history?at=2026-11-22")
    tell(404, "GET", f"{BASE}99/history")


def many_at_once(tell: Teller) -> None:
    """Batches, whole or as far as it goes."""
    operations: list[dict[str, Any]] = [
        {"op": "create", "customer": {"name": f"Batch {n}", "metadata": {"n": n}}} for n in range(6)
    ]
    operations += [{"op": "update", "id": 1, "customer": {"phone": None}}, {"op": "delete", "id": 99}]
    tell(200, "POST", f"{BASE}batch", json={"operations": operations, "atomic": True})
    tell(200, "POST", f"{BASE}batch/", json={"operations": operations})
    tell(400, "POST", f"{BASE}batch", json={"operations": []})
    tell(400, "POST", f"{BASE}batch", json={"operations": operations * 126})


def lists(tell: Teller) -> None:
    """Every filter, every sort, both ways; and cursors of another list."""
    for query in (
        "",
        "limit=3",
        "limit=200",
        "count=none&limit=1",
        "count=exact&deleted=include",
        "count=estimated",
        "deleted=only",
        "deleted=exclude&limit=1",
        "q=ANN",
        "q=batch&sort=-name",
        "q=zoe",
        "q=emile",
        "q=nobody",
        "q=%26",
        "email=Ann@example.org",
        "name__startswith=Batch",
        "metadata.tier=gold",
        "metadata.n=3",
        "updated__gte=2026-11-23T00:00:05Z&sort=-updated_on&limit=4",
        "updated__gt=2026-11-23T00:00:05Z&updated__lte=2026-11-23T00:00:12Z&sort=updated_on",
        "created__lt=2026-11-23T00:00:04Z&fields=id,created_on",
        "sort=email&limit=5",
        "sort=-version&fields=id,name",
        "sort=created_on",
        "sort=-id&limit=2",
    ):
        page = tell(200, "GET", f"{BASE}?{query}").json
        if page["next"]:
            following = tell(200, "GET", page["next"]).json
            tell(200, "GET", following["previous"])
    tell(200, "GET", BASE.rstrip("/"))
    for query in ("q=", "email=%20"):
        tell(400, "GET", f"{BASE}?{query}")
    for query in (
        "limit=0",
        "sort=phone",
        "fields=x",
        "name[$ne]=x",
        "q=a&q=b",
        "cursor=x",
        "count=maybe",
    ):
        tell(400, "GET", f"{BASE}?{query}")
    first = tell(200, "GET", f"{BASE}?limit=2&sort=name").json
    tell(400, "GET", first["next"].replace("sort=name", "sort=-name"))


def merging(tell: Teller) -> None:
    """Two become one, and two again."""
    asked: dict[str, Any] = {"from": [{"id": 3, "version": 1}], "fields": {"metadata": {"met": True}}}
    merge = f"{BASE}2/merge"
    tell(200, "POST", f"{merge}?dry_run=true", json=asked)
    tell(412, "POST", merge, json=asked, headers={"If-Match": '"v9"'})
    tell(400, "POST", merge, json={"from": [2, 99]})
    tell(403, "POST", merge, by="reader", json=asked)
    tell(404, "POST", f"{BASE}99/merge", json=asked)
    for _ in range(2):
        tell(200, "POST", merge, json=asked, headers={"Idempotency-Key": "k9"})
    for method in ("GET", "PUT"):
        tell(410, method, f"{BASE}3", json=ANN)
    for number in (2, 3):
        tell(200, "GET", f"{BASE}{number}/history")
    tell(200, "POST", f"{BASE}2/unmerge/", headers={"If-Match": '"v2"'})
    tell(409, "POST", f"{BASE}2/unmerge")
    tell(200, "GET", f"{BASE}3")


def alike(tell: Teller) -> None:
    """Likely duplicates, and others."""
    twin = tell(201, "POST", f"{BASE}?duplicates=warn", json={**ANN, "email": "ann@example.org"}).json["id"]
    tell(200, "GET", f"{BASE}{twin}/duplicates")
    tell(400, "GET", f"{BASE}{twin}/duplicates?min_score=2")
    tell(404, "GET", f"{BASE}99/duplicates")
    tell(200, "GET", f"{BASE}duplicates?limit=1")
    pair = {"ids": [1, twin]}
    tell(200, "POST", f"{BASE}duplicates/dismiss", json=pair)
    tell(200, "GET", f"{BASE}duplicates?dismissed=include")
    tell(200, "POST", f"{BASE}duplicates/undismiss/", json=pair)
    tell(400, "POST", f"{BASE}duplicates/dismiss", json={"ids": [1]})
    tell(403, "POST", f"{BASE}duplicates/dismiss", by="reader", json=pair)
    tell(204, "DELETE", f"{BASE}{twin}")


def erasing(tell: Teller) -> None:
    """Nothing personal is left, also not in the history."""
    tell(403, "POST", f"{ONE}/erase")
    tell(404, "POST", f"{BASE}99/erase", by="admin")
    tell(200, "POST", f"{ONE}/erase", by="admin")
    tell(200, "GET", f"{ONE}/history")
    tell(200, "GET", f"{BASE}?q=smith")
    tell(200, "GET", f"{ONE}/notifications")


def in_bulk(tell: Teller) -> None:
    """Out and in again: what goes in is created, updated, the same, or an error of its row."""
    for form in ("csv", "ndjson", "json"):
        assert tell(200, "GET", f"{BASE}export?format={form}&sort=name&deleted=include").data
    tell(200, "GET", f"{BASE}export?format=csv&q=batch&fields=id,name")
    tell(400, "GET", f"{BASE}export?format=xml")
    rows = (
        b'{"name":"Nora","email":"nora@example.org"}\n{"id":2,"name":"Zoe"}\n{"id":3,"name":"\xc3\x89mile"}\n'
    )
    asked = f"{BASE}import?on=id"
    tell(200, "POST", f"{asked}&dry_run=true", data=rows, content_type=NDJSON)
    tell(409, "POST", f"{asked}&plan=0123456789abcdef", data=rows, content_type=NDJSON)
    tell(400, "POST", asked, data=rows + b'{"id":2,"name":""}\n', content_type=NDJSON)
    done = tell(200, "POST", asked, data=rows, content_type=NDJSON, headers={"Idempotency-Key": "k3"})
    counts = {name: count for name, count in done.json["counts"].items() if count}
    assert counts == {"create": 1, "update": 1, "same": 1}
    tell(200, "POST", asked, data=rows, content_type=NDJSON, headers={"Idempotency-Key": "k3"})
    table = "name,email,metadata.tier\nOtto,otto@example.org,gold\nNora,nora@example.org,\n"
    tell(200, "POST", f"{BASE}import/?on=email", data=table, content_type="text/csv")
    newest = tell(200, "GET", f"{BASE}imports").json["results"][0]["id"]
    tell(200, "POST", f"{BASE}imports/{newest}/undo?dry_run=true")
    tell(200, "POST", f"{BASE}imports/{newest}/undo")
    tell(404, "POST", f"{BASE}imports/nothere/undo")
    tell(415, "POST", asked, data=rows, content_type="image/png")
    tell(403, "POST", asked, by="reader", data=rows, content_type=NDJSON)


def under_old_names(tell: Teller) -> None:
    """The originals' paths: the same, and each answer says that there is a newer one."""
    for answer in (
        tell(200, "GET", "/customers?limit=2"),
        tell(200, "PUT", "/customers/4", json={"name": "Old client", "phone": "2", "email": "o@example.com"}),
        tell(200, "PATCH", "/customers/4/", json={"phone": "3"}),
        tell(204, "DELETE", "/customers/4"),
        tell(404, "GET", "/customers/4"),
    ):
        assert answer.headers["Deprecation"].startswith("@")


def told_otherwise(tell: Teller) -> None:
    """The part that depends on the settings of an installation."""
    tell(428, "PUT", ONE, by="careful", json=ANN)
    tell(405, "PUT", ONE, by="copy", json=ANN)
    tell(200, "GET", f"{BASE}2", by="copy")
    tell(504, "GET", f"{BASE}2", by="copy", headers={"X-Custsvc-Min-Position": "2-99", "Prefer": "wait=0"})
    tell(400, "GET", f"{BASE}2", by="choosy", headers={"Host": "evil.example"})
    for path in ("/api/status", "/livez", "/readyz"):
        tell(200, "GET", path, by="without Kafka")
    for method, path in (
        ("GET", "/api/failed/?stage=replicate"),
        ("POST", "/api/failed/dead-0/retry"),
        ("GET", "/api/events/stream"),
    ):
        problem = tell(503, method, path, by="without Kafka").json
        assert problem["dependency"] == "kafka"
        assert "CUSTSVC_KAFKA" in problem["detail"]


def about(tell: Teller) -> None:
    """The documents of the API, and its health and metrics; the last needs no key."""
    for path in (
        "/api/openapi.json",
        "/api/schema/",
        "/api/docs",
        "/api/docs/docs.css",
        "/api/events/schema",
        "/api/events/asyncapi.json",
        "/problems",
        "/problems/validation",
        "/livez",
        "/readyz",
    ):
        tell(200, "GET", path, by="stranger")
        tell(405, "PUT", path, by="stranger")
    for path in ("/api/status", "/api/failed/", "/api/events/stream", "/api/customers/export"):
        tell(401, "GET", path, by="stranger")
    for wrong in ("customer=x", "op=x", "from=x", "x=1"):
        tell(400, "GET", f"/api/events/stream?{wrong}")
    tell(400, "GET", "/api/events/stream", headers={"Last-Event-ID": "x"})
    tell(404, "GET", "/api/nothing")


def pipeline(tell: Teller) -> None:
    """The failures: two records that no copy could read, two mails that no server accepted."""
    tell(200, "GET", f"{BASE}2/notifications")
    tell(200, "GET", f"{BASE}2/notifications/?limit=1")
    tell(404, "GET", f"{BASE}99/notifications")
    failed(tell)
    # On a busy machine Kafka may not answer in time, and then the status says so.
    tell.when(lambda status: status["problem"] is None, "/api/status/")
    tell(400, "GET", "/api/status?x=1", by="reader")
    tell(200, "GET", "/metrics", by="stranger")


def webhooks(tell: Teller, deliver: Callable[[str], None]) -> None:
    """An endpoint is made, changed, paused, tested, asked for its log, and deleted; all by an admin."""
    path, url = "/api/webhooks", "https://crm.example.org/hook"
    tell(401, "GET", path, by="stranger")
    tell(403, "POST", path, json={"url": url})
    wrongs: tuple[Any, ...] = ({}, {"url": "http://10.0.0.1/"}, {"url": url, "ops": ["x"], "age": 7}, [])
    for wrong in wrongs:
        tell(400, "POST", path, by="admin", json=wrong)
    given = {"url": url, "ops": ["updated"], "changed": ["email"], "when": {"metadata.tier": "gold"}}
    key = {"headers": {"Idempotency-Key": "hook-1"}}
    made = tell(201, "POST", f"{path}/", by="admin", json=given, **key)
    again = tell(201, "POST", path, by="admin", json=given, headers={"Idempotency-Key": "hook-1"})
    assert made.json == again.json
    tell(422, "POST", path, by="admin", json={"url": url}, headers={"Idempotency-Key": "hook-1"})
    assert "secret" not in tell(200, "GET", path, by="admin").text.replace("secret_made_on", "")
    one = f"{path}/{made.json['id']}"
    tell(200, "PATCH", one, by="admin", json={"payload": "state", "email": "it@example.org", "when": {}})
    tell(400, "PATCH", one, by="admin", json={"email": "it"})
    tell(404, "PATCH", f"{path}/nothere", by="admin", json={})
    deliver(made.json["id"])
    log = tell(200, "GET", f"{one}/deliveries?limit=2", by="admin").json
    tell(200, "GET", log["next"], by="admin")
    tell(200, "GET", f"{one}/deliveries/?state=failed", by="admin")
    for query in ("state=nonsense", "limit=0", "cursor=x", "x=1"):
        tell(400, "GET", f"{one}/deliveries?{query}", by="admin")
    tell(202, "POST", f"{one}/deliveries/{log['results'][-1]['id']}/redeliver", by="admin")
    tell(404, "POST", f"{one}/deliveries/nothere/redeliver", by="admin")
    tell(202, "POST", f"{one}/test", by="admin")
    tell(200, "POST", f"{one}/pause", by="admin")
    tell(409, "POST", f"{one}/test", by="admin")
    tell(200, "POST", f"{one}/resume", by="admin")
    tell(200, "POST", f"{one}/rotate?overlap=0", by="admin")
    tell(400, "POST", f"{one}/rotate?overlap=604801", by="admin")
    tell(200, "GET", one, by="admin")
    tell(204, "DELETE", one, by="admin")
    gone = (("GET", one), ("DELETE", one), ("GET", f"{one}/deliveries"), ("POST", f"{one}/pause"))
    for method, where in gone:
        tell(404, method, where, by="admin")


def failed(tell: Teller) -> None:
    """One of each stage is sent again and one is given up, and neither twice."""
    rows = tell(200, "GET", "/api/failed/", by="reader").json["results"]
    for query in ("stage=notify", "stage=replicate", "stage=notify&limit=1", "limit=3"):
        tell(200, "GET", f"/api/failed?{query}")
    for query in ("stage=nonsense", "limit=0", "x=1"):
        tell(400, "GET", f"/api/failed/?{query}")
    for stage in ("replicate", "notify"):
        first, second = (f"/api/failed/{row['id']}" for row in rows if row["stage"] == stage)
        tell(401, "POST", f"{first}/retry", by="stranger")
        tell(403, "POST", f"{first}/retry", by="reader")
        tell(400, "POST", f"{first}/retry?x=1")
        tell(202, "POST", f"{first}/retry")
        tell(409, "POST", f"{first}/retry/")
        tell(202, "POST", f"{second}/discard/")
        tell(409, "POST", f"{second}/discard")
    for unknown in ("dead-0", "0123456789abcdef"):
        tell(404, "POST", f"/api/failed/{unknown}/retry")
        tell(404, "POST", f"/api/failed/{unknown}/discard")
    assert tell(200, "GET", "/api/failed/").json["count"] == 0


def events(tell: Teller, count: int) -> None:
    """The stream from its beginning, from where a reader left off, and some of it only."""
    told = tell.stream("?from=beginning", count)
    left_off, _ = told[count // 2]
    assert tell.stream("", count - count // 2 - 1, left_off) == told[count // 2 + 1 :]
    deleted = [each for each in told if orjson.loads(each[1])["op"] == "deleted"]
    assert tell.stream("/?from=beginning&op=deleted", len(deleted)) == deleted
    ones = [data for _, data in told if orjson.loads(data)["customer_id"] == 1]
    assert [data for _, data in tell.stream("?from=beginning&customer=1", len(ones))] == ones
