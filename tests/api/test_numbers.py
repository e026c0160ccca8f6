"""A number of JSON is kept as it is written, or refused with its field: by every way in, and in its event."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from custsvc.cli.customers.lines import _parsed
from custsvc.domain.received import decode
from custsvc.domain.strict_json import Inexact, is_kept, parse_json
from custsvc.errors import BadEvent

from .conftest import Client

BASE = "/api/customers"
CODES = {"not_exact", "not_finite", "out_of_range"}
digits = st.text("0123456789", min_size=1, max_size=40)
NUMBERS = st.one_of(
    st.builds(
        lambda sign, whole, part, power: sign + (whole.lstrip("0") or "0") + part + power,
        st.sampled_from(["", "-"]),
        digits,
        st.just("") | digits.map(lambda found: "." + found),
        st.just("")
        | st.builds(
            lambda e, sign, power: f"{e}{sign}{power}",
            *(st.sampled_from("eE"), st.sampled_from(["", "+", "-"]), st.integers(0, 420)),
        ),
    ),
    st.integers(-(2**66), 2**66).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    # As C and PHP write floats, and as a float exactly is.
    st.floats(allow_nan=False, allow_infinity=False).map(lambda value: f"{value:.17g}"),
    st.floats(-1e6, 1e6).map(lambda value: format(Decimal(value), "f")),
)
EXAMPLES = [
    *("1e-400", "-1e-400", "0e-400", "-0.0", "-0", "0.0e999", "5e-324", "2e-324", "4.9e-324", "1.0"),
    *("0.1", "0.10000000000000001", "0.1000000000000000055511151231257827021181583404541015625"),
    *("0.12345678901234567890", "1" * 19, "1" * 20, "1" * 20 + ".0", "123456789012345678.5", "1e308"),
    *("1.7976931348623157e308", "1.7976931348623158e308", "1.7976931348623159e308", "1e309", "1" * 400),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809"),
    *("9007199254740993", "9007199254740993.0", "1" + "0" * 1200 + ".0", "0." + "0" * 1200 + "1"),
]

WAYS: dict[str, Callable[[str], tuple[str, str, str]]] = {
    "one": lambda n: (f"{BASE}/", "application/json", f'{{"name":"A","metadata":{{"n":{n}}}}}'),
    "batch": lambda n: (
        f"{BASE}/batch",
        "application/json",
        f'{{"operations":[{{"op":"create","customer":{{"name":"A","metadata":{{"n":{n}}}}}}}]}}',
    ),
    "lines": lambda n: (
        f"{BASE}/import",
        "application/x-ndjson",
        f'{{"name":"A","metadata":{{"n":{n}}}}}\n',
    ),
    "entries": lambda n: (f"{BASE}/import", "application/x-ndjson", f'{{"name":"A","metadata.n":{n}}}\n'),
    "table": lambda n: (f"{BASE}/import", "text/csv", f'name,metadata\nA,"{{""n"":{n}}}"\n'),
}


def says_the_same(written: str, stored: bytes) -> bool:
    """Whether what is stored is at most half a unit of the last written digit away from what was written."""
    given = Fraction(written)
    kept = Fraction(float(stored)) if {*stored} & {*b".eE"} else Fraction(int(stored))
    last = Decimal(written).normalize(Context(prec=2000)).as_tuple().exponent
    return given == kept or (kept != 0 and abs(given - kept) <= Fraction(10) ** int(last) / 2)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("number", EXAMPLES)
def test_odd_numbers(client: Client, way: str, number: str) -> None:
    check(client, way, number)


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=60)
@given(number=NUMBERS)
def test_a_number_is_kept_as_written_or_refused_with_its_field(client: Client, way: str, number: str) -> None:
    check(client, way, number)


def check(client: Client, way: str, number: str) -> None:
    before = client.get(f"{BASE}/?limit=1&sort=-id").json
    path, media, body = WAYS[way](number)

    answer = client.post(path, data=body, content_type=media)

    newest = client.get(f"{BASE}/?limit=1&sort=-id").json
    if newest["count"] == before["count"]:
        assert any(f'"{code}"' in answer.text for code in CODES) or answer.json.get("code") == "bad-json"
        assert "metadata" in answer.text or len(number) > 300
        exact = Decimal(number)
        assert exact != Decimal(repr(float(number))) or abs(exact) >= 2**63, "it is a float, and was refused"
        return
    customer_id = newest["results"][0]["id"]
    doc = client.get(f"{BASE}/{customer_id}").data
    stored = doc.partition(b'"n":')[2].partition(b"}")[0]
    assert says_the_same(number, stored), (number, stored)
    event = client.get(f"{BASE}/{customer_id}/history?limit=1").json["results"][0]
    assert orjson.dumps(event["after_change"]["metadata"]["n"]) == stored
    assert decode(orjson.dumps(event), b"%d" % customer_id).doc() == doc


@given(NUMBERS)
@example("1e-400")
def test_a_number_that_is_not_kept_is_one_that_has_other_digits(number: str) -> None:
    value = parse_json(number)

    if isinstance(value, float) and abs(value) != float("inf"):
        assert isinstance(value, Inexact) != says_the_same(number, repr(float(value)).encode())
        assert is_kept(number, float(value)) != isinstance(value, Inexact)


@given(NUMBERS)
@example("1e-400")
def test_an_event_of_others_with_a_number_that_is_not_kept_is_dead_lettered(number: str) -> None:
    record = EVENT.replace("N", number).encode()
    try:
        float(number) and json.loads(number)
        found = decode(record, b"7")
    except BadEvent as exc:
        assert exc.reason_class in ("bad-field", "bad-json")
        return
    stored = found.doc().partition(b'"n":')[2].partition(b",")[0]
    assert says_the_same(number, stored)


EVENT = """{"op": "created", "customer_id": 7, "version": 1, "after_change": {"id": 7, "name": "A",
"email": null, "phone": null, "metadata": { "n" : N, "t": "x" }, "deleted": false, "version": 1,
"created_on": "2026-11-23T20:40:00.123Z", "created_by": "t", "updated_on": "2026-11-23T20:40:00.123Z",
"updated_by": "t", "extra": 1e-400}}"""


@given(NUMBERS)
@example("1e-400")
@example("1e400")
def test_the_command_line_sends_a_number_as_it_is_written_or_refuses_its_line(number: str) -> None:
    line = _parsed("create", 1, f'{{"name":"A","metadata":{{"n":{number}}}}}'.encode())

    if line.operation is not None:
        sent = json.dumps(line.operation["customer"]["metadata"]["n"])
        assert says_the_same(number, sent.encode())
    else:
        assert isinstance(parse_json(number), Inexact) or abs(parse_json(number)) == float("inf")
        assert "write it as text" in str(line.wrong)
