"""How fast mails leave: `custsvc notify` beside smtplib alone, same sink, same number of connections.

    python benchmarks/notify.py --backend postgres --mails 20000 --processes 4 --connections 8

The sink is aiosmtpd in a process of its own. Measured is the time from the first mail that it takes to the
last one. smtplib alone makes each mail (`EmailMessage`) and sends it (`send_message`); and, as `made before`,
sends bytes that were there. custsvc claims each mail, makes it, records the hand-over durably, sends it, and
records the answer durably.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import email.policy
import json
import os
import smtplib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from custsvc.config import Settings
from custsvc.local import LocalServers
from custsvc.notify.intake.notifications import notifications_of
from custsvc.notify.rules import sample
from custsvc.notify.rules.file import load
from custsvc.ports.ledger import Notification
from custsvc.stores import open_store

_SENDER = "custsvc@example.com"


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a script


def sink(count: int) -> None:
    """Take mails until there are `count`, and print when the first and the last came."""
    from aiosmtpd.smtp import SMTP

    times: list[float] = []
    done = asyncio.Event()

    class Handler:
        async def handle_DATA(self, _server: Any, _session: Any, _envelope: Any) -> str:  # noqa: N802
            times.append(time.monotonic())
            if len(times) == count:
                done.set()
            return "250 OK"

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: SMTP(Handler(), loop=loop), "127.0.0.1", 0)
        say(str(server.sockets[0].getsockname()[1]))
        await done.wait()
        await asyncio.sleep(0.2)

    asyncio.run(serve())
    say(json.dumps({"first": times[0], "last": times[-1]}))


@contextmanager
def running_sink(count: int) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    argv = [sys.executable, __file__, "--sink", str(count)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(line(process)), process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    """The next line that it prints; a process that is silent for long is stuck."""
    watch = threading.Timer(240, process.kill)
    watch.start()
    try:
        return process.stdout.readline()  # type: ignore[union-attr]
    finally:
        watch.cancel()


def rate(process: subprocess.Popen[str], count: int) -> float:
    """Mails per second, when the sink has all."""
    times = json.loads(line(process))
    return (count - 1) / (times["last"] - times["first"])


def rows(count: int) -> Iterator[list[Notification]]:
    """What is sent: the mail about a change, to as many customers."""
    (one, _) = notifications_of(sample.event("updated"), load(Settings()), None)
    for start in range(0, count, 1000):
        yield [
            replace(one, id=f"{n:032x}", customer_id=n + 1, recipient=f"c{n}@example.com")
            for n in range(start, min(start + 1000, count))
        ]


# -- smtplib alone -----------------------------------------------------------------------------------------


def as_program(row: Notification) -> EmailMessage:
    """The mail as a program of its own would make it."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = _SENDER, row.recipient, row.subject
    message["Date"], message["Message-ID"] = (
        format_datetime(dt.datetime.now(dt.UTC)),
        f"<{row.id}@example.com>",
    )
    message.set_content(row.text)
    message.add_alternative(row.html or "", subtype="html")
    return message


def plain_worker(port: int, count: int, connections: int, made_before: bool) -> None:
    """One process of the bare loop: as many threads as connections."""
    all_rows = [row for batch in rows(count) for row in batch]
    ready = (
        {row.id: as_program(row).as_bytes(policy=email.policy.SMTP) for row in all_rows}
        if made_before
        else {}
    )

    def send(mine: list[Notification]) -> None:
        with smtplib.SMTP("127.0.0.1", port) as smtp:
            for row in mine:
                if made_before:
                    smtp.sendmail(_SENDER, [row.recipient], ready[row.id])
                else:
                    smtp.send_message(as_program(row))

    say("ready")
    sys.stdin.readline()
    threads = [threading.Thread(target=send, args=(all_rows[n::connections],)) for n in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def plain(args: argparse.Namespace, *, made_before: bool) -> float:
    """Mails per second by smtplib alone."""
    share = args.mails // args.processes
    with running_sink(share * args.processes) as (port, process):
        work = f"{port},{share},{args.connections},{int(made_before)}"
        argv = [sys.executable, __file__, "--plain", work]
        workers = [
            subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(args.processes)
        ]
        for worker in workers:
            line(worker)
        for worker in workers:
            worker.stdin.write("\n")  # type: ignore[union-attr]
            worker.stdin.flush()  # type: ignore[union-attr]
        found = rate(process, share * args.processes)
        for worker in workers:
            worker.communicate(timeout=60)
    return found


# -- custsvc -----------------------------------------------------------------------------------------------


def notify(args: argparse.Namespace, settings: Settings) -> float:
    """Mails per second by as many processes of the role."""
    with running_sink(args.mails) as (port, process):
        env = {
            **os.environ,
            "CUSTSVC_BACKEND": args.backend,
            f"CUSTSVC_{args.backend.upper()}_URL": settings.url(args.backend),
            "CUSTSVC_KAFKA": settings.kafka,
            "CUSTSVC_SMTP_URL": f"smtp+plain://127.0.0.1:{port}",
            "CUSTSVC_MAIL_FROM": _SENDER,
            "CUSTSVC_NOTIFY_CONNECTIONS": str(args.connections),
            "CUSTSVC_LOG_LEVEL": "WARNING",
        }
        workers = [
            subprocess.Popen([sys.executable, "-m", "custsvc", "notify"], env=env)
            for _ in range(args.processes)
        ]
        try:
            return rate(process, args.mails)
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait(30)


def main() -> None:
    """Both in one run, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=("postgres", "mongo"), default="postgres")
    parser.add_argument("--mails", type=int, default=20_000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--connections", type=int, default=8, help="per process")
    parser.add_argument("--sink", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--plain", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.sink:
        sink(args.sink)
        return
    if args.plain:
        port, count, connections, made_before = map(int, args.plain.split(","))
        plain_worker(port, count, connections, bool(made_before))
        return
    with tempfile.TemporaryDirectory(prefix="custsvc-bench-") as folder:
        servers = LocalServers(Path(folder), names=[args.backend, "kafka"], ephemeral=True)
        try:
            servers.start()
            found = {name.removeprefix("CUSTSVC_").lower(): value for name, value in servers.env().items()}
            settings = Settings(**{**found, "backend": args.backend})
            with open_store(settings) as store:
                store.migrate()
                for batch in rows(args.mails):
                    store.ledger.add(batch)
            made_before = plain(args, made_before=True)
            alone = plain(args, made_before=False)
            ours = notify(args, settings)
        finally:
            servers.stop()
    say(
        f"{args.backend}: {args.mails} mails, {args.processes} processes of {args.connections} connections: "
        f"custsvc notify {ours:.0f}/s, smtplib alone {alone:.0f}/s ({ours / alone:.0%} of it), "
        f"with mails made before {made_before:.0f}/s ({ours / made_before:.0%})"
    )


if __name__ == "__main__":
    main()
