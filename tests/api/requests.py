"""Random requests to the API: writes and reads of every kind, right ones and wrong ones, from one seed.

The requests build on each other: most are about customers that are there, follow cursors that came back,
and repeat keys, plans and entity tags that were seen. The same seed and the same answers make the same ones.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import orjson

from tests.values import LOOK_ALIKE

BASE: Final = "/api/customers/"
JSON: Final = "application/json"
PATCH: Final = "application/merge-patch+json"
NDJSON: Final = "application/x-ndjson"

NAMES: Final = [
    *[
        "Ann Lee",
        "ann lee",
        "Ann-Marie_Lee",
        "Zoë O'Neil",
        "zoe oneil",
        "ZOË",
        "Zoe\u0308",
        "Émile Zola",
        "Emil",
    ],
    *["Straße Müller", "STRASSE", "李 小龍", "山田太郎", "राम", "ışık", "IŞIK", "Łukasz", "Sørensen"],
    *["A" * 400, "a" * 70 + " b", "Z", "0", "'); DROP TABLE customer; --", "%", "_", "\\", "=SUM(A1)", "'=x"],
    *["\U0001f98a Fox", "\uff21\uff4e\uff4e", "\ufb01n", "ῼ", "ΐ", "Å", "\u212b", "x\u0301\u0301", "\ue000"],
]
EMAILS: Final = [
    *["ann@example.org", "Ann@Example.org", "ANN@EXAMPLE.ORG", "zoë@example.org", "ZOË@example.org"],
    *["a.b+c@example.com", "A.B+C@example.com", "x@münchen.de", "x@xn--mnchen-3ya.de", "'q@example.net"],
    "fox@firma.local",
]
PHONES: Final = ["+49 30 1234", "0301234", "112", "+1 (555) 0100", "１２", "0"]
KEYS: Final = ["tier", "age", "vip", "n", "Tier", "ключ", "e\u0301", "a b", "=", "1"]
TEXTS: Final = ["gold", "Gold", "1", "1.0", "true", "null", "", "a\nb", "x" * 500, '"', "\\"]
NUMBERS: Final = [*(each for pair in LOOK_ALIKE for each in pair), 0.1, 1e300, -1e-300, 2**63 - 1, 40, 40.0]
SPELLED: Final = [*TEXTS, "40", "-0.0", "1e15", "9007199254740992"]
WRONG: Final[list[Any]] = [
    7,
    [],
    {},
    "",
    " ",
    "a\0b",
    "a\u202eb",
    "x" * 600,
    True,
    2**70,
    {"a": {}},
    "\ud800",
]
WORDS: Final = [
    *["ann", "ANN le", "zoe", "émile", "lee ann", "org", "1", "+49", "example.o", "straße", "小", "例"],
    *["isik", "lukasz", "太郎", "राम", "😀", "&", ""],
]
SORTS: Final = ["id", "name", "email", "created_on", "updated_on", "version"]
FIELDS: Final = ["id", "name", "email", "phone", "metadata", "deleted", "version", "created_on", "updated_by"]
TAGS: Final = ['"v1"', '"v2"', "*", 'W/"v1"', '"v1-gzip"', '"v1", "v2"', '"x"', "v1", "", '"v99"']
DATES: Final = ["Fri, 01 Jan 2100 00:10:00 GMT", "Sat, 01 Jan 2101 00:00:00 GMT", "yesterday", ""]


class Asked(NamedTuple):
    """One request."""

    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = {}


@dataclass
class Requests:
    """Makes the requests of a seed. `learn` is told what each came to."""

    seed: int
    ids: list[int] = field(default_factory=list)
    cursors: list[str] = field(default_factory=list)
    plans: list[tuple[str, Asked]] = field(default_factory=list)
    keyed: list[Asked] = field(default_factory=list)
    made: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def next(self) -> Asked:
        self.made += 1
        asked = self._pick(_KINDS)(self)
        if asked.method != "GET" and self._often(0.1):
            key = f"key-{self.made}"
            asked = asked._replace(headers={**asked.headers, "Idempotency-Key": key})
            self.keyed.append(asked)
        return asked

    def learn(self, asked: Asked, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Take up ids, cursors and plans that an answer holds."""
        if status >= 400 or not body or JSON not in headers.get("Content-Type", ""):
            return
        answer = orjson.loads(body)
        if not isinstance(answer, dict):
            return
        self.cursors += [answer[name] for name in ("next", "previous") if answer.get(name)]
        del self.cursors[:-50]
        if "plan" in answer and answer.get("dry_run"):
            self.plans.append((answer["plan"], asked))
        found = answer.get("results") or [answer]
        self.ids += [each["id"] for each in found if isinstance(each.get("id"), int)]
        self.ids = list(dict.fromkeys(self.ids))[-300:]

    # -- values --------------------------------------------------------------------------------------------

    def _pick(self, values: Any) -> Any:
        return self.random.choice(values)

    def _often(self, share: float) -> bool:
        return self.random.random() < share

    def some_id(self) -> int:
        if not self.ids or self._often(0.05):
            return self._pick([99_999, 2**63 - 1, 1])
        return int(self._pick(self.ids))

    def value(self) -> Any:
        return self._pick([None, True, False, self._pick(TEXTS), self._pick(NUMBERS), self._pick(NUMBERS)])

    def metadata(self) -> Any:
        keys = self.random.sample(KEYS, self.random.randrange(4))
        return {key: self.value() for key in keys}

    def fields(self, *, whole: bool) -> dict[str, Any]:
        made = {
            "name": self._pick(NAMES),
            "email": self._pick([None, *EMAILS]),
            "phone": self._pick([None, *PHONES]),
            "metadata": self._pick([None, self.metadata()]),
        }
        keep = {name: value for name, value in made.items() if self._often(0.5) or (whole and name == "name")}
        if self._often(0.04):
            keep[self._pick([*made, "metadata", "nmae"])] = self._pick(WRONG)
        return keep

    def body(self, value: Any) -> bytes:
        """JSON, and now and then something that is none."""
        text = _json(value)
        if self._often(0.03):
            return bytes(self._pick(_BROKEN)(text))
        return text

    # -- requests ------------------------------------------------------------------------------------------

    def conditions(self) -> dict[str, str]:
        headers = {}
        if self._often(0.25):
            headers["If-Match"] = self._pick(TAGS)
        if self._often(0.05):
            headers["If-None-Match"] = self._pick(TAGS)
        if self._often(0.05):
            headers["If-Unmodified-Since"] = self._pick(DATES)
        if self._often(0.1):
            headers["Prefer"] = self._pick(["return=minimal", "return=representation", "wait=1"])
        return headers

    def create(self) -> Asked:
        path = self._pick([BASE, BASE.rstrip("/"), "/customers"])
        headers = {"Content-Type": JSON} | ({"Prefer": "return=minimal"} if self._often(0.05) else {})
        return Asked("POST", path, self.body(self.fields(whole=True)), headers)

    def change(self) -> Asked:
        method = self._pick(["PUT", "PATCH", "PATCH"])
        body = self.body(self.fields(whole=method == "PUT"))
        media = self._pick([JSON, PATCH]) if method == "PATCH" else JSON
        return Asked(method, self.one(), body, {"Content-Type": media, **self.conditions()})

    def one(self) -> str:
        return f"{self._pick([BASE, BASE, '/customers/'])}{self.some_id()}{self._pick(['', '/'])}"

    def step(self) -> Asked:
        what = self._pick(["", "/restore", "/restore", "/revert", "/revert", "/erase"])
        if what == "/erase" and self._often(0.7):
            what = "/restore"
        path = f"{BASE}{self.some_id()}{what}"
        if what == "/revert":
            body = self.body({"version": self._pick([1, 1, 2, 3, 99, 0, "1", 1.0, True])})
            return Asked("POST", path, body, {"Content-Type": JSON, **self.conditions()})
        return Asked("POST" if what else "DELETE", path, None, self.conditions())

    def merge(self) -> Asked:
        path = f"{BASE}{self.some_id()}"
        if self._often(0.3):
            return Asked("POST", f"{path}/unmerge", None, self.conditions())
        others: list[Any] = [self.some_id() for _ in range(self.random.randrange(1, 4))]
        if self._often(0.2):
            others[0] = {"id": others[0], "version": self._pick([1, 1, 2, 3, 0])}
        body: dict[str, Any] = {"from": others}
        if self._often(0.4):
            body["fields"] = self.fields(whole=False)
        query = self._pick(["", "", "", "?dry_run=true"])
        return Asked(
            "POST", f"{path}/merge{query}", self.body(body), {"Content-Type": JSON, **self.conditions()}
        )

    def operation(self) -> dict[str, Any]:
        op = self._pick(["create", "replace", "update", "update", "delete", "restore"])
        made: dict[str, Any] = {"op": op}
        if op != "create":
            made["id"] = self.some_id()
        if op in ("create", "replace", "update"):
            made["customer"] = self.fields(whole=op != "update")
        if self._often(0.15):
            made["version"] = self._pick([1, 2, 3, 0])
        return made

    def batch(self) -> Asked:
        operations = [self.operation() for _ in range(self.random.randrange(1, 9))]
        body = self.body({"operations": operations, "atomic": self._often(0.4)})
        return Asked("POST", f"{BASE}batch", body, {"Content-Type": JSON, **self.conditions()})

    def load(self) -> Asked:
        if self.plans and self._often(0.15):
            plan, asked = self._pick(self.plans)
            return asked._replace(path=asked.path.replace("dry_run=true", f"plan={plan}"))
        query = {
            "on": self._pick(["id", "email"]),
            "dry_run": self._pick(["true", "false"]),
            "restore": self._pick(["true", "false"]),
            "skip_errors": self._pick(["true", "true", "false"]),
        }
        path = f"{BASE}import?{urlencode(query)}"
        if self._often(0.5):
            rows = [self.body(self.row()) for _ in range(self.random.randrange(1, 7))]
            return Asked("POST", path, b"\n".join(rows), {"Content-Type": NDJSON})
        return Asked("POST", path, self.table(), {"Content-Type": "text/csv"})

    def row(self) -> dict[str, Any]:
        row = self.fields(whole=self._often(0.7))
        if self._often(0.5):
            row["id"] = self.some_id()
        if self._often(0.3):
            row[f"metadata.{self._pick(KEYS)}"] = self.value()
        return row

    def table(self) -> bytes:
        heading = ["id", "name", "email", *self.random.sample(["phone", "metadata", "metadata.tier"], 2)]
        lines = [heading]
        for _ in range(self.random.randrange(1, 7)):
            cells = {
                "id": self._pick(["", str(self.some_id()), str(self.some_id())]),
                "name": self._pick(NAMES),
                "email": self._pick(["", *EMAILS]),
                "phone": self._pick(["", *PHONES]),
                "metadata": self._pick(["", _json(self.metadata()).decode()]),
                "metadata.tier": self._pick(["", *TEXTS]),
            }
            lines.append([cells[name] for name in heading])
        return "\r\n".join(",".join(_cell(cell) for cell in line) for line in lines).encode()

    def filters(self) -> dict[str, str]:
        made = {
            "q": lambda: self._pick(WORDS),
            "email": lambda: self._pick([*EMAILS, "nobody@example.org", "", " ", "no address"]),
            "name__startswith": lambda: self._pick(NAMES)[: self.random.randrange(1, 6)],
            "deleted": lambda: self._pick(["include", "only", "exclude", "maybe"]),
            f"metadata.{self._pick(KEYS)}": lambda: self._pick(
                [*TEXTS, "40", "-0.0", "1e15", "9007199254740992"]
            ),
            f"created__{self._pick(['gte', 'gt', 'lte', 'lt'])}": self.time,
            f"updated__{self._pick(['gte', 'gt', 'lte', 'lt'])}": self.time,
        }
        chosen = self.random.sample(list(made), self._pick([0, 1, 1, 1, 2, 3]))
        return {name: made[name]() for name in chosen}

    def time(self) -> str:
        minute = self.random.randrange(60)
        return str(self._pick([f"2100-01-01T00:{minute:02d}:00Z", "2100-01-01", "2100-01-02", "x", ""]))

    def sorted(self) -> dict[str, str]:
        made = {"sort": self._pick(["", "-"]) + self._pick(SORTS)} if self._often(0.6) else {}
        if self._often(0.1):
            made["fields"] = ",".join(self.random.sample(FIELDS, 2))
        return made

    def list(self) -> Asked:
        if self.cursors and self._often(0.5):
            return Asked("GET", self._pick(self.cursors))
        query = {**self.filters(), **self.sorted(), "limit": str(self._pick([1, 2, 3, 7, 50, 200]))}
        if self._often(0.2):
            query["count"] = self._pick(["exact", "none", "exact", "some"])
        return Asked("GET", f"{self._pick([BASE, '/customers'])}?{urlencode(query)}")

    def export(self) -> Asked:
        query = {**self.filters(), **self.sorted(), "format": self._pick(["csv", "ndjson", "json"])}
        return Asked("GET", f"{BASE}export?{urlencode(query)}")

    def look(self) -> Asked:
        headers = {}
        if self._often(0.3):
            headers["If-None-Match"] = self._pick(TAGS)
        if self._often(0.2):
            headers["If-Modified-Since"] = self._pick(DATES)
        return Asked(self._pick(["GET", "GET", "HEAD"]), self.one(), None, headers)

    def past(self) -> Asked:
        query = self._pick([{}, {"limit": "1"}, {"limit": "2"}, {"at": self.time()}])
        return Asked("GET", f"{BASE}{self.some_id()}/history?{urlencode(query)}")

    def again(self) -> Asked:
        """An earlier request with its key, or another request with the same key."""
        if not self.keyed:
            return self.list()
        asked: Asked = self._pick(self.keyed[-20:])
        return asked._replace(body=asked.body + b" ") if self._often(0.4) and asked.body else asked


_KINDS: Final[list[Callable[[Requests], Asked]]] = [
    *[Requests.create] * 4,
    *[Requests.change] * 12,
    *[Requests.step] * 8,
    *[Requests.merge] * 4,
    *[Requests.batch] * 4,
    *[Requests.load] * 5,
    *[Requests.list] * 14,
    *[Requests.export] * 2,
    *[Requests.look] * 4,
    *[Requests.past] * 3,
    *[Requests.again] * 2,
]

_BROKEN: Final[list[Callable[[bytes], bytes]]] = [
    lambda text: text[:-1],
    lambda text: b"\xef\xbb\xbf" + text,
    lambda text: text.replace(b"{", b'{"name":"Twice",', 1),
    lambda text: text.replace(b"{", b'{"n":' + b"9" * 5000 + b",", 1),
    lambda text: text.replace(b"{", b'{"n":' + b"[" * 3000 + b"]" * 3000 + b",", 1),
    lambda text: text.replace(b"{", b'{"n":NaN,', 1),
    lambda text: text + b"\xff",
    lambda _: b"",
    lambda text: b"[" + text + b"]",
]


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()  # surrogates and big numbers too


def _cell(text: str) -> str:
    quoted = text.replace('"', '""')
    return f'"{quoted}"' if set(text) & set(',"\r\n') else text
