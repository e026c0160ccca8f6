"""API keys by themselves: named, made, compared, remembered for a moment, and expired."""

from __future__ import annotations

import ast
import datetime as dt
import re
from pathlib import Path

import pytest

import custsvc
from custsvc.accounts.keys import KEY_TTL, KeyRing, Principal, new_key
from custsvc.domain.customers import utc_now
from custsvc.errors import ValidationError
from custsvc.ports.accounts import ApiKey


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "a\nb", "a\x00b"])
def test_a_key_needs_a_printable_name(name: str) -> None:
    with pytest.raises(ValidationError):
        new_key(name, "read")


def test_no_two_keys_are_alike_and_each_has_256_random_bits() -> None:
    """S2."""
    texts = [new_key("n", "read")[0] for _ in range(200)]

    assert len({t.split("_")[1] for t in texts}) == len({t.split("_", 2)[2] for t in texts}) == 200
    assert {len(t.split("_", 2)[2]) for t in texts} == {43}


SECRET = re.compile("secret|token|password|sha256|digest|csrf|signed|hmac|session_key|api_key", re.IGNORECASE)


def test_the_time_of_comparing_a_secret_does_not_reveal_how_much_of_it_was_right() -> None:
    """S2: where the code compares with `==`, neither side is named like a secret."""
    looked_at = 0
    for path in Path(custsvc.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
                looked_at += 1
                text = ast.unparse(node).replace("secrets.randbelow", "")
                assert not SECRET.search(text), f"{path}:{node.lineno}: {text}"
    assert looked_at > 100


class CountedKeys:
    """Keys that count how often they are asked."""

    def __init__(self, key: ApiKey) -> None:
        self.key: ApiKey | None = key
        self.asked = 0

    def find(self, prefix: str) -> ApiKey | None:
        self.asked += 1
        return self.key if self.key and self.key.prefix == prefix else None

    def add(self, key: ApiKey) -> None: ...

    def all(self) -> list[ApiKey]:
        return []

    def revoke(self, prefix: str, now: dt.datetime) -> bool:
        return False


def test_a_key_is_read_once_in_two_seconds_so_revoking_works_within_them() -> None:
    text, key = new_key("n", "write")
    keys, now = CountedKeys(key), [100.0]
    ring = KeyRing(keys, monotonic=lambda: now[0])

    assert [ring.principal(text) for _ in range(5)] == [Principal("n", "write", key.prefix)] * 5
    keys.key = None
    assert ring.principal(text) is not None
    now[0] += KEY_TTL
    assert ring.principal(text) is None
    assert keys.asked == 2
    assert KEY_TTL <= 5


def test_a_key_expires_by_the_clock_even_while_it_is_remembered() -> None:
    start = utc_now()
    text, key = new_key("n", "write", expires_on=start + dt.timedelta(seconds=1))
    now = [start]
    ring = KeyRing(CountedKeys(key), clock=lambda: now[0], monotonic=lambda: 0.0)

    assert ring.principal(text) is not None
    now[0] += dt.timedelta(seconds=1)
    assert ring.principal(text) is None


def test_trying_made_up_keys_does_not_fill_the_memory() -> None:
    _, key = new_key("n", "write")
    ring = KeyRing(CountedKeys(key), monotonic=lambda: 0.0)

    for number in range(10_000):
        assert ring.principal(f"csk_{number:012x}_{'A' * 43}") is None

    assert len(ring._cached) <= 4096
