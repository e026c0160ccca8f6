"""Servers that answer whatever a script says: any bytes, in any order, after any delay, cut off anywhere.

A script sees what was asked and gives back actions: bytes to send, seconds to wait, or DROP. The servers keep
what they took, so that a test can tell what was accepted twice.
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final


class Drop:
    """The connection is broken off here."""


DROP: Final = Drop()
Action = bytes | float | Drop
# How many seconds a script's connection waits for the other side.
_PATIENCE = 60.0


class _Dropped(Exception):
    pass


class Scripted:
    """A server on loopback, a thread for each connection."""

    def __init__(self, bind: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in bind else socket.AF_INET
        self._listening = socket.create_server((bind, 0), family=family, backlog=128)
        self.port: int = self._listening.getsockname()[1]
        self.connections = 0
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def talk(self, client: socket.socket) -> None:
        """One connection from its begin to its end."""
        raise NotImplementedError

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for client in list(self._open):
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        self._thread.join(60)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._open.add(client)
        client.settimeout(_PATIENCE)
        try:
            with client, suppress(OSError, _Dropped):
                self.talk(client)
        finally:
            self._open.discard(client)

    def play(self, client: socket.socket, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Drop):
                # A reset, as of a process that dies with unread bytes.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                raise _Dropped
            if isinstance(action, bytes):
                client.sendall(action)
            else:
                time.sleep(action)


@dataclass(frozen=True)
class Asked:
    """The last command of a client of a scripted SMTP server."""

    word: str
    recipient: str
    text: bytes = b""

    @property
    def message_id(self) -> str:
        found = re.search(rb"(?im)^Message-ID: <([^@>]*)@", self.text)
        return found[1].decode() if found else ""


def dripping(piece: bytes, times: int, pause: float = 0.2) -> list[Action]:
    """The same piece again and again, with so many seconds after each."""
    script: list[Action] = []
    for _ in range(times):
        script += [piece, pause]
    return script


def polite(asked: Asked) -> list[Action]:
    """The answers of a server that has nothing against anybody."""
    answers: dict[str, list[Action]] = {
        "GREETING": [b"220 scripted ESMTP\r\n"],
        "EHLO": [b"250-scripted\r\n250-SIZE 10000000\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"],
        "DATA": [b"354 go on\r\n"],
        "QUIT": [b"221 bye\r\n", DROP],
    }
    return answers.get(asked.word, [b"250 OK\r\n"])


class ScriptedSmtp(Scripted):
    """An SMTP server. `script` is asked at each word: GREETING, EHLO, MAIL, RCPT, DATA, TEXT, RSET …"""

    def __init__(self, script: Callable[[Asked], Iterable[Action]] = polite) -> None:
        self.script = script
        self.asked: Counter[tuple[str, str]] = Counter()
        # Per Message-ID, how often a 2xx for its text was said: what the world got.
        self.accepted: Counter[str] = Counter()
        super().__init__()

    @property
    def url(self) -> str:
        return f"smtp+plain://127.0.0.1:{self.port}"

    def talk(self, client: socket.socket) -> None:
        recipient = ""
        with client.makefile("rb") as lines:
            self._say(client, Asked("GREETING", ""))
            while line := lines.readline(100_000):
                word = line[:4].decode("ascii", "replace").upper()
                if found := re.match(rb"(?i)RCPT TO:<([^>]*)>", line):
                    recipient = found[1].decode("utf-8", "replace")
                said = self._say(client, Asked(word, recipient))
                if word == "DATA" and said.startswith(b"354"):
                    self._take(client, Asked("TEXT", recipient, _text(lines)))

    def _take(self, client: socket.socket, asked: Asked) -> None:
        actions = list(self.script(asked))
        said = b"".join(a for a in actions if isinstance(a, bytes))
        # A mail whose answer a client may have taken for a success was delivered by this server.
        if re.match(rb"(?s)(2\d\d-[^\n]*\n)*2\d\d[^\n-]", said):
            self.accepted[asked.message_id] += 1
        self.asked["TEXT", asked.recipient] += 1
        self.play(client, actions)

    def _say(self, client: socket.socket, asked: Asked) -> bytes:
        self.asked[asked.word, asked.recipient] += 1
        actions = list(self.script(asked))
        self.play(client, actions)
        return b"".join(a for a in actions if isinstance(a, bytes))


def _text(lines: Iterable[bytes]) -> bytes:
    text: list[bytes] = []
    for line in lines:
        if line == b".\r\n":
            return b"".join(text)
        text.append(line)
    raise _Dropped


def http(code: int = 200, body: bytes = b"ok", **headers: str) -> list[Action]:
    """An answer of HTTP as it should be."""
    head = f"HTTP/1.1 {code} said\r\ncontent-length: {len(body)}\r\n"
    head += "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return [head.encode() + b"\r\n" + body]


def chunked(code: int, *chunks: bytes, end: bytes = b"0\r\n\r\n") -> list[Action]:
    """An answer in chunks."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return [b"HTTP/1.1 %d said\r\ntransfer-encoding: chunked\r\n\r\n" % code + body + end]


class ScriptedHttp(Scripted):
    """An HTTP server. `script` is asked at each call, by its `webhook-id`."""

    def __init__(
        self, script: Callable[[str], Iterable[Action]] = lambda _: http(), *, bind: str = "127.0.0.1"
    ) -> None:
        self.script = script
        self.calls: list[str] = []
        self.hosts: list[str] = []
        super().__init__(bind)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def talk(self, client: socket.socket) -> None:
        with client.makefile("rb") as lines:
            while lines.readline(100_000):
                headers = {}
                while (line := lines.readline(100_000)).strip():
                    name, _, value = line.decode("latin-1").partition(":")
                    headers[name.lower()] = value.strip()
                lines.read(int(headers.get("content-length", "0")))
                name = headers.get("webhook-id", "")
                self.calls.append(name)
                self.hosts.append(headers.get("host", ""))
                self.play(client, self.script(name))


class Tls(ScriptedHttp):
    """The same over TLS."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def talk(self, client: socket.socket) -> None:
        with self._context.wrap_socket(client, server_side=True) as safe:
            super().talk(safe)
