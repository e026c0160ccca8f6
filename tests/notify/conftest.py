"""A real SMTP server whose answers a test writes, and senders on real ledgers."""

from __future__ import annotations

import asyncio
import email
import email.policy
import ssl
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any, cast

import pytest
from aiosmtpd.smtp import SMTP

from custsvc.config import Settings
from custsvc.domain.address import one_address
from custsvc.kafka.publisher import Publisher
from custsvc.kafka.topics import ensure_topics
from custsvc.notify.channels.mail import MailChannel
from custsvc.notify.channels.smtp import Server, SmtpTransport, Timeouts
from custsvc.notify.sending.breaker import Breaker
from custsvc.notify.sending.gate import Gate, Limits
from custsvc.notify.sending.journal import Journal
from custsvc.notify.sending.sender import Policy, Sender
from custsvc.ports.ledger import Ledger, Notification
from custsvc.ports.store import Store
from custsvc.runtime.loop import Stop
from tests.databases import settings_of
from tests.loop_thread import LoopThread, close_server
from tests.waiting import until

from .receiver import Receiver

Answer = str | Callable[[Any, Any], Awaitable[str]]

# A loaded machine may answer late, and a mail whose answer does not come is unknown. So only those wait
# shortly who wait in vain.
PATIENT = Timeouts(connect=90.0, command=90.0, data=90.0)
IMPATIENT = Timeouts(connect=90.0, command=90.0, data=0.5)


@dataclass
class Accepted:
    """A mail that the sink has said 250 to, or would have."""

    recipient: str
    recipients: list[str]
    content: bytes
    at: float

    @property
    def message(self) -> EmailMessage:
        return email.message_from_bytes(self.content, policy=email.policy.SMTPUTF8)


async def drop(server: Any, _envelope: Any) -> str:
    """Break the connection instead of an answer."""
    server.transport.abort()
    return "250 never seen"


async def never(_server: Any, _envelope: Any) -> str:
    """No answer, as long as the connection stands."""
    await asyncio.sleep(3600)
    return "250 never seen"


def late(seconds: float, answer: str = "250 OK") -> Answer:
    """The answer, but only after a while."""

    async def answer_late(_server: Any, _envelope: Any) -> str:
        await asyncio.sleep(seconds)
        return answer

    return answer_late


@dataclass
class Sink:
    """An SMTP server on loopback. `rcpt` and `data` map a recipient to the answers it gets, in turn."""

    rcpt: dict[str, list[Answer]] = field(default_factory=dict)
    data: dict[str, list[Answer]] = field(default_factory=dict)
    mail: list[Answer] = field(default_factory=list)
    accepted: list[Accepted] = field(default_factory=list)
    commands: Counter[str] = field(default_factory=Counter)
    tls: ssl.SSLContext | None = None
    connections: int = 0
    port: int = 0

    def __post_init__(self) -> None:
        self._thread = LoopThread("sink")
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Transport] = set()
        self.start()

    @property
    def url(self) -> str:
        return f"smtp+plain://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._thread.call(self._start())

    def stop(self) -> None:
        """Take no connection any more, and break those there are."""
        self._thread.call(self._stop())

    def close(self) -> None:
        self.stop()
        self._thread.close()

    def to(self, recipient: str) -> list[Accepted]:
        return [mail for mail in self.accepted if mail.recipient == recipient]

    async def _start(self) -> None:
        self._server = await self._thread.loop.create_server(self._protocol, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        if self._server is not None:
            await close_server(self._server)
            self._server = None
            for transport in list(self._open):
                transport.abort()
            await asyncio.sleep(0.05)

    def _protocol(self) -> SMTP:
        self.connections += 1
        loop = self._thread.loop
        return _Connection(
            self, hostname="sink", enable_SMTPUTF8=True, loop=loop, tls_context=self.tls, timeout=300
        )

    def made(self, transport: asyncio.Transport) -> None:
        """A connection stands, or has changed to TLS. Who came while the sink stopped is sent away."""
        self._open.add(transport)
        if self._server is None:
            transport.abort()

    def lost(self, transport: asyncio.Transport) -> None:
        self._open.discard(transport)

    async def _answer(self, answers: list[Answer] | None, server: Any, envelope: Any) -> str:
        if not answers:
            return "250 OK"
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return answer if isinstance(answer, str) else await answer(server, envelope)

    # aiosmtpd's names
    async def handle_MAIL(  # noqa: N802
        self, server: Any, _session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        self.commands["MAIL"] += 1
        answer = await self._answer(self.mail, server, envelope)
        if answer.startswith("2"):
            envelope.mail_from = address
            envelope.mail_options.extend(options)
        return answer

    async def handle_RCPT(  # noqa: N802
        self, server: Any, _session: Any, envelope: Any, address: str, _options: list[str]
    ) -> str:
        self.commands["RCPT"] += 1
        answer = await self._answer(self.rcpt.get(address), server, envelope)
        if answer.startswith("2"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        self.commands["DATA"] += 1
        recipient = envelope.rcpt_tos[0]
        answers = self.data.get(recipient)
        accepted = Accepted(recipient, list(envelope.rcpt_tos), envelope.original_content, time.monotonic())
        # A server that is slow to answer has taken the mail all the same.
        first = answers[0] if answers else "250"
        refuses = isinstance(first, str) and not first.startswith("2")
        if not refuses:
            self.accepted.append(accepted)
        return await self._answer(answers, server, envelope)


class _Connection(SMTP):
    """One connection to the sink, which knows of it for as long as it stands."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._made = cast(asyncio.Transport, transport)
        self.event_handler.made(self._made)

    def connection_lost(self, error: Exception | None) -> None:
        self.event_handler.lost(self._made)
        super().connection_lost(error)


@pytest.fixture
def sink() -> Iterator[Sink]:
    with closing(Sink()) as sink:
        yield sink


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return store.ledger


def mail(
    name: str,
    customer: int | None = 1,
    version: int = 1,
    to: str = "a@example.com",
    subject: str = "Hello",
    text: str = "Hello you\n",
    html: str | None = None,
) -> Notification:
    return Notification(name, f"event-{name}", customer, version, "changed", to, subject, text, html)


@pytest.fixture
def bad_addresses() -> list[str]:
    """The addresses that servers reported as unknown."""
    return []


@pytest.fixture
def new_sender(
    sink: Sink, ledger: Ledger, store: Store, bad_addresses: list[str]
) -> Iterator[Callable[..., Sender]]:
    """Makes senders, each with a connection of its own; `policy` and `breaker` may be given."""
    with ExitStack() as stack:

        def make(
            *,
            breaker: Breaker | None = None,
            stop: Stop | None = None,
            rng: Callable[[], float] = lambda: 0.5,
            on: Ledger | None = None,
            timeouts: Timeouts = PATIENT,
            limits: Limits | None = None,
            **policy: Any,
        ) -> Sender:
            transport = SmtpTransport(Server.parse(sink.url), timeouts)
            stack.callback(transport.close)
            options = {"tries": 4, "retry_base": 0.1, "retry_cap": 1.0, "idle": 0.01}
            how = Policy(**{**options, **policy})
            return Sender(
                "mail",
                MailChannel(transport, one_address("custsvc@example.com")),
                Journal(on or ledger, how.lease),
                Gate(on or ledger, store.recipients, limits or Limits()),
                breaker or Breaker(),
                how,
                stop or Stop(),
                on_bad_address=lambda address, _: bad_addresses.append(address),
                rng=rng,
            )

        yield make


def turns_until(sender: Sender, condition: Callable[[], Any], seconds: float = 120.0) -> None:
    """Let a sender work until `condition` holds."""

    def done() -> Any:
        if not (value := condition()):
            sender.turn()
        return value

    until("the sender did it", done, seconds, every=0)


# -- the whole role --------------------------------------------------------------------------------------


@pytest.fixture
def settings(servers: Any, sink: Sink, backend: str, database_url: str) -> Settings:
    mine = uuid.uuid4().hex[:12]
    settings = settings_of(
        backend,
        database_url,
        kafka=servers.url("kafka"),
        topic_updates=f"updates-{mine}",
        topic_notify=f"notify-{mine}",
        topic_failed=f"failed-{mine}",
        topic_dead=f"dead-{mine}",
        group_prefix=f"custsvc-{mine}-",
        partitions=3,
        smtp_url=sink.url,
        notify_connections=2,
    )
    ensure_topics(settings)
    return settings


@pytest.fixture
def publisher(settings: Settings) -> Iterator[Publisher]:
    with Publisher(settings) as publisher:
        yield publisher


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()
