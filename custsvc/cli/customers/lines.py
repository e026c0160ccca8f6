"""JSON lines in, a result a line out: many operations, done as they come, each reported with its line.

Lines are sent together as long as more are waiting, so that a file is fast and a slow pipe is prompt.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import IO, TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from ...client import ApiError, Client, Operation

Op = Literal["create", "update", "delete", "restore"]

AT_ONCE: Final = 100
# Bytes: of one line, and of the lines that are sent together. The API takes 8 MB.
LINE_MAX: Final = 1 << 20
_TOGETHER: Final = 4 << 20
COLUMNS: Final = ("line", "status", "id", "version", "error")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the input: what it asks for, or what is wrong with it."""

    number: int
    operation: Operation | None = None
    wrong: str = ""


@dataclass(slots=True)
class Tally:
    """How many lines were done, how many not."""

    done: int = 0
    failed: int = 0


def run(
    client: Client, op: Op, source: IO[bytes], tally: Tally, *, key: str | None = None
) -> Iterator[dict[str, Any]]:
    """Do each line of the source; its result, in the order of the lines.

    With a `key` each line has an idempotency key of its own, made from it and the line's number: the same
    file can be sent again, and what was done is not done twice. Raises ApiError when the API is away or
    refuses the key, after the results that are known.
    """
    pipe = _Pipe(source)
    while chunk := pipe.take(1 if key else AT_ONCE):
        lines = [_parsed(op, number, text) for number, text in chunk if text.strip()]
        asked = [line for line in lines if line.operation is not None]
        results, failure = _sent(client, asked, key)
        for line in lines:
            result = results.get(line.number) or {}
            if not result:
                result = _result(line, 400, error=_error("bad-line", line.wrong))
            tally.done += result["error"] is None
            tally.failed += result["error"] is not None
            yield result
        if failure is not None:
            raise failure


def _sent(
    client: Client, lines: Sequence[Line], key: str | None
) -> tuple[dict[int, dict[str, Any]], ApiError | None]:
    """The results by line; and the error after which it is no use to go on."""
    from ...client import ApiError, NotPermitted, Unavailable

    operations = [line.operation for line in lines if line.operation is not None]
    if not operations:
        return {}, None
    try:
        # A line alone is done or leaves nothing behind, so that it can be corrected and sent with its key.
        atomic, own = (True, f"{key}:{lines[0].number}") if key else (False, None)
        found = client.batch(operations, atomic=atomic, key=own)
    except ApiError as exc:
        why = _error(exc.code or "unreachable", str(exc))
        failed = {line.number: _result(line, exc.status or 503, error=why) for line in lines}
        return failed, exc if isinstance(exc, (Unavailable, NotPermitted)) else None
    results = {}
    for line, each in zip(lines, found, strict=True):
        wrong = each.error
        error = _error(wrong["code"], wrong.get("detail", ""), wrong.get("errors")) if wrong else None
        results[line.number] = _result(line, each.status, each.id, each.version, error)
    return results, None


def _result(
    line: Line, status: int, id: int | None = None, version: int | None = None, error: Any = None
) -> dict[str, Any]:
    if id is None and line.operation is not None:
        id = line.operation.get("id")
    return {"line": line.number, "status": status, "id": id, "version": version, "error": error}


def _error(code: str, detail: str, errors: Any = None) -> dict[str, Any]:
    return {"code": code, "detail": detail, **({"errors": errors} if errors else {})}


def _parsed(op: Op, number: int, text: bytes) -> Line:
    from ...domain.strict_json import DuplicateKey, NotKept, parse_exact_json

    if len(text) > LINE_MAX:
        return Line(number, wrong=f"the line is longer than {LINE_MAX:,} bytes")
    try:
        value = parse_exact_json(text.decode("utf-8-sig" if number == 1 else "utf-8"))
    except DuplicateKey as exc:
        return Line(number, wrong=f"the line has the key {str(exc)!r} twice")
    except NotKept as exc:
        return Line(number, wrong=f"a value of the line {exc}")
    except (ValueError, RecursionError) as exc:
        return Line(number, wrong=f"the line is not JSON: {exc}")
    if op == "create":
        return Line(number, {"op": "create", "customer": value})
    return _of_customer(op, number, value)


def _of_customer(op: Op, number: int, value: Any) -> Line:
    """A line about a customer that is there: an object with its id; to delete or restore, the id will do."""
    if type(value) is int and op != "update":
        value = {"id": value}
    if not isinstance(value, dict) or not _is_id(value.get("id")):
        return Line(number, wrong='the line must be an object with the customer\'s id, as {"id": 7}')
    operation: Operation = {"op": op, "id": value["id"]}
    if value.get("version") is not None:
        operation["version"] = value["version"]
    if op == "update":
        operation["customer"] = value
    return Line(number, operation)


def _is_id(value: Any) -> bool:
    from ...domain.customers import INT64_MAX

    return type(value) is int and 0 < value <= INT64_MAX


class _Pipe:
    """Lines with their numbers, read ahead by a thread."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._read_ahead: queue.Queue[tuple[int, bytes] | None] = queue.Queue(2 * AT_ONCE)
        self._ended = False
        self._raised: OSError | None = None
        threading.Thread(target=self._read, name="lines", daemon=True).start()

    def take(self, most: int) -> list[tuple[int, bytes]]:
        """As many lines as are there, at most `most`; waits for the first. None are left at the end."""
        taken: list[tuple[int, bytes]] = []
        size = 0
        while len(taken) < most and size < _TOGETHER and not self._ended:
            try:
                line = self._read_ahead.get(block=not taken)
            except queue.Empty:
                break
            if line is None:
                self._ended = True
            else:
                taken.append(line)
                size += len(line[1])
        if not taken and self._raised is not None:
            raise self._raised
        return taken

    def _read(self) -> None:
        try:
            for number in count(1):
                line = self._source.readline(LINE_MAX + 1)
                if not line:
                    break
                rest = line
                while len(rest) > LINE_MAX and not rest.endswith(b"\n"):
                    rest = self._source.readline(LINE_MAX + 1)
                self._read_ahead.put((number, line))
        except OSError as exc:
            self._raised = exc
        finally:
            self._read_ahead.put(None)
