"""Logging set-up for every role: one line per event on stderr, for people on a terminal, JSON elsewhere.

A log call is a short sentence with lazy arguments, plus `extra` with a stable `action` word and the ids it
is about. Control characters are escaped in both forms, so that one event is always one line.
"""

from __future__ import annotations

import datetime as dt
import logging
import sys
from typing import Any

import orjson

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_LINE_ENDS = {code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029)}
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)}


def set_up(level: str = "INFO", fmt: str = "auto", role: str = "custsvc") -> None:
    """Send the `custsvc` loggers (and warnings of the libraries) to stderr.

    `fmt` is `text`, `json`, or `auto`: text on a terminal, JSON elsewhere.
    """
    handler = logging.StreamHandler(sys.stderr)
    as_text = fmt == "text" or (fmt == "auto" and sys.stderr.isatty())
    handler.setFormatter(TextFormatter(role) if as_text else JsonFormatter(role))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("custsvc").setLevel(level.upper())


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {k: v for k, v in record.__dict__.items() if k not in _STANDARD}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ts, level, role, logger, message and the record's extras."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "role": self._role,
            "logger": record.name,
            "message": record.getMessage(),
            **_extras(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        text = orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
        # These end a line for many a reader, and JSON need not escape them.
        return text.translate(_LINE_ENDS)


class TextFormatter(logging.Formatter):
    """`12:30:01 relay    INFO  sentence  key=value …`, a traceback below it where there is one."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        clock = dt.datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        extras = " ".join(f"{k}={v}" for k, v in _extras(record).items())
        line = f"{clock} {self._role:<9} {record.levelname:<7} {record.getMessage()}"
        line = (line + ("  " + extras if extras else "")).translate(_ESCAPES)
        return line + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")
