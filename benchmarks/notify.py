"""How fast mails leave: `custsvc notify` beside smtplib alone, same sink, same number of connections.

    python benchmarks/notify.py --backend postgres --mails 20000 --processes 4 --connections 8 --rounds 3

The sink is aiosmtpd in a process of its own. Measured is the time from the first mail that it takes to the
last one, and the processor time between the two of the senders, of the database and of the sink. smtplib
alone makes each mail (`EmailMessage`) and sends it (`send_message`); and, as `made before`, sends bytes that
were there. custsvc claims each mail, makes it, records the hand-over durably, sends it, and records the
answer durably. All take turns; a figure is the median of the rounds. With `--before FOLDER` the custsvc of
another checkout takes turns too, on a database of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import email.policy
import os
import smtplib
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from statistics import median
from typing import Any

from custsvc.bench import mongo, postgres, proc
from custsvc.config import Settings
from custsvc.local import LocalServers
from custsvc.notify.intake.notifications import notifications_of
from custsvc.notify.rules import sample
from custsvc.notify.rules.file import load
from custsvc.ports.ledger import Notification
from custsvc.stores import open_store

_SENDER = "custsvc@example.com"
_HERE = Path(__file__).parents[1]


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a script


def sink(count: int) -> None:
    """Take mails until there are `count`; print when the first and the last came."""
    from aiosmtpd.smtp import SMTP

    taken = 0
    done = asyncio.Event()

    class Handler:
        async def handle_DATA(self, _server: Any, _session: Any, _envelope: Any) -> str:  # noqa: N802
            nonlocal taken
            taken += 1
            if taken in (1, count):
                say(str(time.monotonic()))
            if taken == count:
                done.set()
            return "250 OK"

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: SMTP(Handler(), loop=loop), "127.0.0.1", 0)
        say(str(server.sockets[0].getsockname()[1]))
        await done.wait()
        await asyncio.sleep(0.2)

    asyncio.run(serve())


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
    watch = threading.Timer(480, process.kill)
    watch.start()
    try:
        return process.stdout.readline()  # type: ignore[union-attr]
    finally:
        watch.cancel()


@dataclass(frozen=True, slots=True)
class Cost:
    """One turn: mails per second, and microseconds of processor time per mail."""

    rate: float
    senders: float
    database: float
    sink: float


def cost(
    process: subprocess.Popen[str], senders: Sequence[subprocess.Popen[Any]], database: int, count: int
) -> Cost:
    """The cost of `count` mails, once the sink has all. `database` is a process id, or 0."""

    def used() -> list[float]:
        pids = [[sender.pid for sender in senders], [database] if database else [], [process.pid]]
        return [sum(proc.processor_s(pid) or 0.0 for pid in some) for some in pids]

    first, before = float(line(process)), used()
    last, after = float(line(process)), used()
    each = [(b - a) / (count - 1) * 1e6 for a, b in zip(before, after, strict=True)]
    return Cost((count - 1) / (last - first), *each)


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


def plain(args: argparse.Namespace, *, made_before: bool) -> Cost:
    """smtplib alone."""
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
        found = cost(process, workers, 0, share * args.processes)
        for worker in workers:
            worker.communicate(timeout=60)
    return found


# -- custsvc -----------------------------------------------------------------------------------------------


def fill(count: int) -> None:
    """Queue mails in the database that the environment names, by the custsvc of PYTHONPATH."""
    with open_store(Settings(**named(os.environ))) as store:
        store.migrate()
        for batch in rows(count):
            store.ledger.add(batch)


def named(variables: Any) -> dict[str, Any]:
    """Settings from `CUSTSVC_…`."""
    prefix = "CUSTSVC_"
    return {name.removeprefix(prefix).lower(): v for name, v in variables.items() if name.startswith(prefix)}


@contextmanager
def database(args: argparse.Namespace, url: str) -> Iterator[str]:
    """A new database on that server."""
    server = postgres if args.backend == "postgres" else mongo
    made = server.create_database(url, f"custsvc_bench_{uuid.uuid4().hex[:12]}")
    try:
        yield made
    finally:
        server.drop_database(made)


def notify(
    args: argparse.Namespace, settings: Settings, pid: int, code: Path
) -> tuple[Cost, dict[str, float]]:
    """As many processes of the role, and what the database wrote for each mail."""
    with database(args, settings.url(args.backend)) as url, running_sink(args.mails) as (port, process):
        env = {
            **os.environ,
            "PYTHONPATH": str(code),
            "CUSTSVC_BACKEND": args.backend,
            f"CUSTSVC_{args.backend.upper()}_URL": url,
            "CUSTSVC_KAFKA": settings.kafka,
            "CUSTSVC_SMTP_URL": f"smtp+plain://127.0.0.1:{port}",
            "CUSTSVC_MAIL_FROM": _SENDER,
            "CUSTSVC_NOTIFY_CONNECTIONS": str(args.connections),
            "CUSTSVC_LOG_LEVEL": "ERROR",
        }
        subprocess.run([sys.executable, "-P", __file__, "--fill", str(args.mails)], env=env, check=True)
        written = written_by(args.backend, url)
        workers = [
            subprocess.Popen([sys.executable, "-P", "-m", "custsvc", "notify"], env=env)
            for _ in range(args.processes)
        ]
        try:
            found = cost(process, workers, pid, args.mails)
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait(60)
        after = written_by(args.backend, url)
    return found, {name: (after[name] - written[name]) / args.mails for name in after}


def written_by(backend: str, url: str) -> dict[str, float]:
    """What the database has written so far: versions of rows or documents, and bytes of its log."""
    if backend == "postgres":
        postgres.checkpoint(url)
        with closing(postgres.connect(url)) as connection, connection.cursor() as cursor:
            cursor.execute(_WRITTEN)
            return dict(
                zip(("versions", "within a page (HOT)", "bytes of log"), cursor.fetchone(), strict=True)
            )
    from pymongo import MongoClient

    with MongoClient[dict[str, Any]](url) as client:
        status = client.admin.command("serverStatus")
        documents = status["metrics"]["document"]
        log = status["wiredTiger"]["log"]["log bytes written"]
        return {"versions": documents["inserted"] + documents["updated"], "bytes of log": log}


_WRITTEN = """
    SELECT sum(n_tup_ins + n_tup_upd)::float8, sum(n_tup_hot_upd)::float8,
           pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8
    FROM pg_stat_user_tables
"""


def compare(args: argparse.Namespace, servers: LocalServers) -> None:
    """All by turns, and the ratios."""
    settings = Settings(**{**named(servers.env()), "backend": args.backend})
    pid = servers.server(args.backend).pid or 0
    codes = {"custsvc notify": _HERE, **({f"the same of {args.before}": args.before} if args.before else {})}
    costs: dict[str, list[Cost]] = {}
    written: dict[str, list[dict[str, float]]] = {}
    for _ in range(args.rounds):
        for name, code in codes.items():
            found, wrote = notify(args, settings, pid, code)
            costs.setdefault(name, []).append(found)
            written.setdefault(name, []).append(wrote)
        costs.setdefault("smtplib alone, mails made before", []).append(plain(args, made_before=True))
        if not args.short:
            costs.setdefault("smtplib alone", []).append(plain(args, made_before=False))
    load = os.getloadavg()[0]
    how = f"{args.processes} processes of {args.connections} connections"
    say(f"{args.backend}: {args.mails} mails, {how}, a load of {load:.0f}")
    bare = median(each.rate for each in costs["smtplib alone, mails made before"])
    for name, each in costs.items():
        middle = {key: median(getattr(one, key) for one in each) for key in Cost.__slots__}
        say(
            f"{name}: {middle['rate']:.0f}/s ({middle['rate'] / bare:.2f} of mails made before); µs a mail: "
            f"senders {middle['senders']:.0f}, database {middle['database']:.0f}, sink {middle['sink']:.0f}"
        )
        for key in written.get(name, [{}])[0]:
            say(f"    {key} a mail: {median(one[key] for one in written[name]):.2f}")


def main() -> None:
    """Parse the arguments, start servers, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=("postgres", "mongo"), default="postgres")
    parser.add_argument("--mails", type=int, default=20_000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--connections", type=int, default=8, help="per process")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--before", type=Path, help="the folder of another checkout")
    parser.add_argument("--short", action="store_true", help="of smtplib only with mails made before")
    parser.add_argument("--data", type=Path, help="the folder of servers that run and go on")
    parser.add_argument("--sink", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--fill", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--plain", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.sink:
        sink(args.sink)
    elif args.fill:
        fill(args.fill)
    elif args.plain:
        port, count, connections, made_before = map(int, args.plain.split(","))
        plain_worker(port, count, connections, bool(made_before))
    elif args.data:
        compare(args, LocalServers(args.data))
    else:
        with tempfile.TemporaryDirectory(prefix="custsvc-bench-") as folder:
            servers = LocalServers(Path(folder), names=[args.backend, "kafka"], ephemeral=True)
            try:
                servers.start()
                compare(args, servers)
            finally:
                servers.stop()


if __name__ == "__main__":
    main()
