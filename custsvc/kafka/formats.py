"""The three formats of an event on the topic: plain JSON; JSON or Avro with the id of a registry's schema.

A record with an id begins with a zero byte and the id in four bytes, as Confluent's serializers write it, and
plain JSON cannot begin so. All readers read all three, mixed as they come: the format may change while all
runs. After the id of a JSON Schema comes the same JSON as in the plain format, so it is read without the
registry. For Avro the registry is asked once for each id.
"""

from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import orjson

from ..config import Settings
from ..domain import event_avro
from ..domain.received import ReceivedEvent, decode
from ..errors import BadEvent, ConfigurationError, Unusable
from ..runtime.extras import needs, require
from .record import Message, header
from .registry import OPTION, URL, Registry, Schema

logger = logging.getLogger(__name__)

_MAGIC: Final = b"\0"
_FRAME: Final = 5
_JSON: Final = b"application/json"
_AVRO: Final = b"application/avro"
# Seconds. A node of the registry may learn of a new schema a moment later; in all so long in a process, since
# anybody can write records with made-up ids.
_LATE: Final = 3.0
_LATE_IN_ALL: Final = 15.0
# Seconds until the registry is asked again for an id that it did not know.
_ASK_AGAIN: Final = 60.0


def subject(settings: Settings) -> str:
    """The name under which the registry has the schema of the topic's values (TopicNameStrategy)."""
    return f"{settings.topic_updates}-value"


def schema(event_format: str) -> Schema:
    """The schema of an event in a format of the registry."""
    if event_format == "avro":
        return Schema("AVRO", orjson.dumps(event_avro.schema()).decode())
    text = (Path(__file__).parent / "schemas" / "event.json").read_bytes()
    return Schema("JSON", orjson.dumps(orjson.loads(text)).decode())


# -- writing ------------------------------------------------------------------------------------------------


class Writing:
    """How events become values of records: `CUSTSVC_EVENT_FORMAT`. Call `begin` before the first one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._format = settings.event_format
        self.content_type: Final = _AVRO if self._format == "avro" else _JSON
        self.encode: Callable[[bytes], bytes] | None = None
        """Makes the value from an event's payload; None: the payload is the value."""

    def begin(self) -> None:
        """Learn the id of our schema, once. Raises ConfigurationError if it is not registered."""
        if self._format == "json" or self.encode is not None:
            return
        prefix = _MAGIC + self._schema_id().to_bytes(_FRAME - 1, "big")
        if self._format == "avro":
            self.encode = _avro_writer(prefix)
        else:
            self.encode = prefix.__add__

    def _schema_id(self) -> int:
        registry, name, ours = Registry(self._settings), subject(self._settings), schema(self._format)
        if self._settings.schema_register:
            found = registry.register(name, ours)
        elif (known := registry.id_of(name, ours)) is not None:
            found = known
        else:
            raise Unusable(
                f"the schema registry has not this version's schema under {name}",
                fix="custsvc topics schema register; or let the relay do it: CUSTSVC_SCHEMA_REGISTER=on",
                dependency="registry",
            )
        logger.info("Events have schema %d of %s", found, name, extra={"action": "schema", "schema": found})
        return found


def _avro_writer(prefix: bytes) -> Callable[[bytes], bytes]:
    """Makes Avro from a payload. One that does not fit our schema stays JSON: it is not an event of ours."""
    with needs("registry"):
        from fastavro import parse_schema, schemaless_writer
    parsed = parse_schema(event_avro.schema())

    def encode(payload: bytes) -> bytes:
        try:
            if (value := event_avro.to_avro(payload)) is not None:
                out = io.BytesIO()
                out.write(prefix)
                schemaless_writer(out, parsed, value)
                return out.getvalue()
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError):
            logger.exception("An event does not fit the Avro schema", extra={"action": "not_avro"})
        return payload

    return encode


# -- reading ------------------------------------------------------------------------------------------------


class Events:
    """Reads events from records, of whichever format. Not before an Avro record does it need the registry."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def read(self, message: Message, value: bytes | None = None) -> ReceivedEvent:
        """The event of a record. `value`: its value, if that is at hand.

        Raises BadEvent and NewerSchema as `decode` does; TemporaryError if the registry is needed and away.
        """
        value = message.value() or b"" if value is None else value
        if value.startswith(_MAGIC):
            value = self._unframed(value, message)
        return decode(value, message.key())

    def json_of(self, value: bytes, message: Message | None = None) -> bytes:
        """The JSON of an event from a record's value. Raises as `read` does."""
        return self._unframed(value, message) if value.startswith(_MAGIC) else value

    def _unframed(self, value: bytes, message: Message | None) -> bytes:
        content = value[_FRAME:]
        if content.startswith(b"{"):
            return content
        if len(value) <= _FRAME:
            raise BadEvent("bad-frame", "the value is only a part of a schema's id")
        number = int.from_bytes(value[1:_FRAME], "big")
        if not self._settings.schema_registry_url:
            return self._without_registry(number, message)
        return _schemas_of(self._settings).reader(number)(content)

    def _without_registry(self, number: int, message: Message | None) -> bytes:
        about = f"the record has schema {number} of a registry, and {URL} is not set"
        if message is not None and header(message, "content-type") == _AVRO:
            # One of ours: as a dead letter it would be missing from a copy.
            raise ConfigurationError(
                about, fix=f"set {URL}, and {OPTION}… for its sign-in (docs/registry.md)"
            )
        raise BadEvent("unknown-schema", about)


Read = Callable[[bytes], bytes]


class _Schemas:
    """The schemas of a registry by their ids: each is asked for once in a process. Any thread may ask."""

    def __init__(self, settings: Settings) -> None:
        require("registry", "fastavro")
        self._registry = Registry(settings)
        self._lock = threading.Lock()
        self._known: dict[int, Read] = {}
        # When an id was found to be unknown, in seconds of the monotonic clock.
        self._unknown: dict[int, float] = {}
        self._late = _LATE_IN_ALL

    def reader(self, number: int) -> Read:
        """Makes JSON from what is written by this schema. Raises BadEvent if it is not one of an event."""
        return self._known.get(number) or self._learn(number)

    def _learn(self, number: int) -> Read:
        with self._lock:
            if time.monotonic() - self._unknown.get(number, -_ASK_AGAIN) < _ASK_AGAIN:
                raise _unknown_schema(number)
            found = self._ask(number)
            if found is None:
                self._unknown[number] = time.monotonic()
                raise _unknown_schema(number)
            self._known[number] = read = _reader(number, found)
            return read

    def _ask(self, number: int) -> Schema | None:
        """The schema; a registry that does not know the id is asked again for a moment."""
        began = time.monotonic()
        patience = min(_LATE, self._late)
        while (found := self._registry.schema(number)) is None and time.monotonic() - began < patience:
            time.sleep(0.2)
        if found is None:
            self._late = max(0.0, self._late - (time.monotonic() - began))
        return found


_schemas: dict[tuple[str, str], _Schemas] = {}


def _schemas_of(settings: Settings) -> _Schemas:
    """The schemas of the settings' registry, shared by all readers of this process."""
    key = settings.schema_registry_url, repr(sorted(settings.schema_registry_options.items()))
    return _schemas.get(key) or _schemas.setdefault(key, _Schemas(settings))


def _unknown_schema(number: int) -> BadEvent:
    return BadEvent("unknown-schema", f"the schema registry has no schema {number}")


def _reader(number: int, found: Schema) -> Read:
    """Makes JSON from Avro by the writer's schema; raises BadEvent for each value of any other schema."""
    if found.kind != "AVRO":
        return _refusing(f"schema {number} is {found.kind}, and the value no JSON")
    from fastavro import parse_schema, schemaless_reader

    ours = parse_schema(event_avro.schema())
    try:
        theirs: Any = parse_schema(orjson.loads(found.text))
        if theirs["name"] != event_avro.NAME:
            return _refusing(f"schema {number} is of {theirs['name']}, not of events")
    except Exception as exc:  # noqa: BLE001 - fastavro raises many kinds
        return _refusing(f"schema {number} cannot be read: {exc}")
    evolved = None if theirs == ours else ours

    def read(content: bytes) -> bytes:
        source = io.BytesIO(content)
        try:
            event: Any = schemaless_reader(source, theirs, evolved)
        except Exception as exc:  # anybody may have written these bytes, and fastavro raises many kinds
            raise BadEvent("bad-avro", f"the value is not Avro of schema {number}: {exc!r}") from exc
        if source.read(1):
            raise BadEvent("bad-avro", f"the value is longer than Avro of schema {number}")
        return event_avro.from_avro(event)

    return read


def _refusing(why: str) -> Read:
    def read(_content: bytes) -> bytes:
        raise BadEvent("foreign-schema", why)

    return read
