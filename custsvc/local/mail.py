"""The mail catcher: an SMTP server that stores each mail as a file, and the mailbox that reads them.

Run as `python -m custsvc.local.mail --port PORT --dir FOLDER`. A mail is in the mailbox before the client
gets the answer 250: the .eml file is renamed into place, then its line is added to the index.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import email
import email.policy
import fcntl
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from custsvc.runtime.extras import needs, require

from . import ports
from .server import Server

INDEX = "index.ndjson"


@dataclass(frozen=True, slots=True)
class Mail:
    """One caught mail: its envelope, the most used headers, and the path of its file."""

    id: str
    sender: str
    recipients: tuple[str, ...]
    subject: str
    message_id: str
    received: dt.datetime
    path: Path

    def message(self) -> EmailMessage:
        """The mail, parsed."""
        return email.message_from_bytes(self.path.read_bytes(), policy=email.policy.SMTPUTF8)


class Mailbox:
    """The caught mails of a folder, oldest first. Reading needs no server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def messages(self, *, to: str | None = None) -> list[Mail]:
        """The mails, all or those for one recipient."""
        try:
            lines = (self.folder / INDEX).read_text(encoding="utf-8").splitlines(keepends=True)
        except FileNotFoundError:
            return []
        # The last line may be incomplete.
        mails = [self._mail(json.loads(line)) for line in lines if line.endswith("\n")]
        return [mail for mail in mails if to is None or to in mail.recipients]

    def clear(self) -> None:
        """Delete all mails."""
        (self.folder / INDEX).unlink(missing_ok=True)
        for path in self.folder.glob("*.eml"):
            path.unlink(missing_ok=True)

    def __len__(self) -> int:
        return len(self.messages())

    def _mail(self, line: dict[str, Any]) -> Mail:
        return Mail(
            id=line["id"],
            sender=line["from"],
            recipients=tuple(line["rcpts"]),
            subject=line["subject"],
            message_id=line["message_id"],
            received=dt.datetime.fromisoformat(line["received"]),
            path=self.folder / f"{line['id']}.eml",
        )


class Catcher:
    """Stores the mails of the SMTP server (an aiosmtpd handler)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        self._keep(envelope.content, envelope.mail_from or "", envelope.rcpt_tos)
        return "250 OK"

    def _keep(self, content: bytes, sender: str, recipients: Sequence[str]) -> None:
        mail_id = f"{time.time_ns()}-{os.getpid()}-{next(self._numbers)}"
        new = self._folder / f".{mail_id}.new"
        new.write_bytes(content)
        new.replace(self._folder / f"{mail_id}.eml")
        headers = email.message_from_bytes(content, policy=email.policy.SMTPUTF8)
        line = {
            "id": mail_id,
            "from": sender,
            "rcpts": list(recipients),
            "subject": str(headers.get("Subject", "")),
            "message_id": str(headers.get("Message-ID", "")),
            "received": dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds"),
        }
        with (self._folder / INDEX).open("a", encoding="utf-8") as index:
            fcntl.flock(index, fcntl.LOCK_EX)
            index.write(json.dumps(line, ensure_ascii=False) + "\n")


class MailCatcher(Server):
    """The mail catcher as an embedded server."""

    name = "mail"
    title = "mail catcher"
    variable = "CUSTSVC_SMTP_URL"
    dependency = "smtp"
    grace_s = 5.0

    @property
    def url(self) -> str:
        # smtp+plain: the catcher uses clear text, on loopback.
        return f"smtp+plain://{self.address}"

    @property
    def mailbox(self) -> Mailbox:
        return Mailbox(self.folder / "mails")

    def prepare(self) -> None:
        require("local", "aiosmtpd")
        self.mailbox.folder.mkdir(mode=0o700, exist_ok=True)

    def command(self) -> Sequence[str | Path]:
        return [sys.executable, "-m", "custsvc.local.mail", "--port", str(self.port), *self.marks()]

    def marks(self) -> Sequence[str]:
        return ["--dir", str(self.mailbox.folder)]

    def probe(self) -> bool:
        return ports.answers(self.port)


async def serve(host: str, port: int, folder: Path) -> None:
    """Catch mails until SIGTERM or SIGINT."""
    with needs("local"):
        from aiosmtpd.smtp import SMTP

    handler = Catcher(folder)
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stopped.set)
    server = await loop.create_server(
        lambda: SMTP(handler, enable_SMTPUTF8=True, hostname="localhost", data_size_limit=50_000_000),
        host,
        port,
    )
    async with server:
        await stopped.wait()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Catch mails into files.")
    parser.add_argument("--host", default=ports.HOST)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dir", type=Path, required=True)
    options = parser.parse_args(argv)
    asyncio.run(serve(options.host, options.port, options.dir))


if __name__ == "__main__":
    main()
