"""Mail requests as records: which are repeats, and their age, in any unit of time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from custsvc.config import Settings
from custsvc.notify.intake.consumer import Intake
from custsvc.notify.rules.file import load
from custsvc.runtime.loop import Stop

from .role import created

SETTINGS = Settings(kafka="127.0.0.1:9", notify_max_age=3600.0)
NOW = time.time()


class Message:
    """A record of the topic of requests."""

    def __init__(
        self, *, offset: int = 5, stamp: float = NOW * 1000, kind: int = 1, text: str = "Hi", **more: Any
    ):
        asked = {"notifyTo": "a@example.com", "subject": "Hello", "textMsg": text, **more}
        self._value = orjson.dumps(asked)
        self._offset = offset
        self._stamp = (kind, int(stamp))

    def topic(self) -> str:
        return SETTINGS.topic_notify

    def partition(self) -> int:
        return 2

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return self._stamp

    def headers(self) -> None:
        return None

    def key(self) -> bytes | None:
        return None

    def value(self) -> bytes:
        return self._value


@pytest.fixture(scope="module")
def intake() -> Intake:
    return _intake(SETTINGS)


def _intake(settings: Settings) -> Intake:
    return Intake(settings, None, None, Stop(), rules=load(settings))  # type: ignore[arg-type]


def row_of(intake: Intake, message: Message) -> Any:
    (row,) = intake.read([message]).rows
    return row


def test_a_record_without_an_id_that_is_read_again_is_the_same_mail(intake: Intake) -> None:
    assert row_of(intake, Message()).id == row_of(intake, Message()).id


@pytest.mark.parametrize(
    "other",
    [
        Message(stamp=NOW * 1000 + 60_000),
        Message(text="Another"),
        Message(offset=6),
        Message(kind=0, stamp=-1),
        Message(id="mine"),
    ],
    ids=["a recreated topic", "another text there", "the next record", "no time", "an id"],
)
def test_another_record_is_another_mail_even_at_the_same_place_of_a_recreated_topic(
    other: Message, intake: Intake
) -> None:
    assert row_of(intake, other).id != row_of(intake, Message()).id


@pytest.mark.parametrize(
    ("one", "other"), [("a b", "a\tb"), ("a b", "a\x00b"), ("a\nb", "a\rb"), ("x", "x\u202e")]
)
def test_ids_that_look_alike_are_two(one: str, other: str, intake: Intake) -> None:
    assert row_of(intake, Message(id=one)).id != row_of(intake, Message(id=other)).id


def test_the_same_id_is_the_same_mail_wherever_it_stands(intake: Intake) -> None:
    assert row_of(intake, Message(id="mine")).id == row_of(intake, Message(id="mine", offset=9, text="B")).id


@pytest.mark.parametrize("unit", [1, 1e3, 1e6, 1e9], ids=["s", "ms", "us", "ns"])
@pytest.mark.parametrize(
    ("age", "state"), [(0, "queued"), (3000, "queued"), (4000, "suppressed"), (-9999, "queued")]
)
def test_the_time_of_a_request_is_read_in_any_unit(
    unit: float, age: float, state: str, intake: Intake
) -> None:
    row = row_of(intake, Message(stamp=(time.time() - age) * unit))

    assert row.state == state
    assert (row.reason is None) is (state == "queued")


@pytest.mark.parametrize(("kind", "stamp"), [(0, 5), (1, 0), (1, -1)])
def test_a_request_without_a_time_is_not_old(kind: int, stamp: float, intake: Intake) -> None:
    assert row_of(intake, Message(kind=kind, stamp=stamp)).state == "queued"


class Changed(Message):
    """A record of the topic of changes."""

    def __init__(self, record: Any) -> None:
        super().__init__()
        self._record = record

    def topic(self) -> str:
        return SETTINGS.topic_updates

    def key(self) -> bytes | None:
        return self._record.key

    def value(self) -> bytes:
        return self._record.value


def test_a_change_that_is_too_old_joins_no_digest_and_keeps_the_id_of_its_window(tmp_path: Path) -> None:
    """So a digest that was sent before offsets were reset is not told of a second time, not even by hand."""
    rules = tmp_path / "notify.toml"
    rules.write_text('[[rule]]\nname = "welcome"\nops = ["created"]\ntemplate = "welcome"\ndigest = 3600\n')
    settings = SETTINGS.replace(notify_rules=str(rules))
    message = Changed(created(1))

    (fresh,) = _intake(settings).read([message]).rows
    time.sleep(0.01)
    (old,) = _intake(settings.replace(notify_max_age=0.0)).read([message]).rows

    assert (fresh.state, old.state, old.entries) == ("queued", "suppressed", None)
    assert fresh.entries is not None
    assert fresh.id == old.id
