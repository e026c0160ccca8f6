"""Logging set-up for every role: one line per event on stderr, for people on a terminal, JSON elsewhere.

A log call is a short sentence with lazy arguments, plus `extra` with a stable `action` word and the ids it
is about. Control and hidden characters are escaped in both forms, so that one event is always one line; no
line contains a secret of the settings.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
from typing import Any

import orjson

from ..redact import redact
from . import printable
from .printable import json_text

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


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
    # Its warnings quote whole addresses of webhooks, whose paths may be secrets, and what receivers send.
    logging.getLogger("urllib3").setLevel(logging.ERROR)


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
        return redact(json_text(_encoded(line)))


def _encoded(line: dict[str, Any]) -> str:
    try:
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # a lone surrogate, or a number beyond 64 bits
        return json.dumps({str(name): value for name, value in line.items()}, default=str)


class TextFormatter(logging.Formatter):
    """`12:30:01 relay    INFO  sentence  key=value …`, a traceback below it where there is one."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        clock = dt.datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        extras = " ".join(f"{k}={v}" for k, v in _extras(record).items())
        line = f"{clock} {self._role:<9} {record.levelname:<7} {record.getMessage()}"
        line = printable.line(line + ("  " + extras if extras else ""))
        trace = "\n" + printable.lines(self.formatException(record.exc_info)) if record.exc_info else ""
        return redact(line + trace)
