"""The role `notify`: intake, senders, upkeep and the failed topic as threads of one process."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator

from ..config import Settings
from ..domain.address import address_key
from ..errors import ConfigurationError, TemporaryError
from ..kafka.acls import topics_of
from ..kafka.publisher import Publisher
from ..kafka.registry import checks
from ..kafka.topics import ensure_topics
from ..ports.ledger import Notification
from ..ports.store import Store
from ..runtime.loop import Stop
from ..stores.running import running
from .channels.channel import Channel
from .channels.chat import AppriseChannel
from .channels.mail import MailChannel
from .channels.message import sender_address
from .channels.server import Server, Timeouts
from .channels.smtp import SmtpTransport
from .channels.unsubscribe import UnsubscribeLinks
from .channels.webhook import WebhookChannel
from .endpoints.dispatch import Dispatch
from .gauges import notify_gauges
from .intake.consumer import Intake, kept_for
from .intake.failed import FailedTopic
from .rules.file import lacks, load
from .rules.rules import MAIL, ChannelConfig, Rules
from .sending.breaker import Breaker
from .sending.gate import Gate, Limits
from .sending.journal import Journal
from .sending.sender import Policy, Sender
from .sending.texts import Texts
from .sending.upkeep import Upkeep

logger = logging.getLogger(__name__)

# Seconds from the stop request to the end of the process; process managers usually allow ten.
_GRACE = 8.0
_DAY = 86400.0

Work = tuple[str, Callable[[], None]]


def run_notify(
    settings: Settings,
    stop: Stop,
    *,
    policy: Policy | None = None,
    timeouts: Timeouts | None = None,
    breaker: Breaker | None = None,
) -> None:
    """Take events and mail requests in and send mails until stop is asked.

    Raises ConfigurationError, before it reads any record, if a rule or a template is wrong. If a thread dies,
    the process ends with its error. Threads that still wait for a mail server or for Kafka after the grace
    period are abandoned; other processes take over their mails when the leases end.
    """
    if not settings.smtp_url:
        raise ConfigurationError("the mail server's address is not set", fix="set CUSTSVC_SMTP_URL")
    server, _ = Server.parse(settings.smtp_url), sender_address(settings.mail_from)
    timeouts = timeouts or Timeouts.of(settings)
    rules = load(settings)
    policy = policy or policy_of(settings)
    with running("notify", settings, stop, gauges=notify_gauges, needs=checks(settings)) as store:
        if store is None:
            return
        ensure_topics(settings, needed=topics_of(settings, "notify"))
        with Publisher(settings) as for_intake, Publisher(settings) as for_failed:
            for_webhooks = threading.Event()
            bell = _Bell(for_webhooks)
            links = unsubscribe_links(settings, store)
            intake = Intake(
                settings,
                store.ledger,
                for_intake,
                stop,
                rules=rules,
                recipients=store.recipients,
                links=links,
                bell=bell,
                endpoints=store.endpoints,
            )
            failed = FailedTopic(store.ledger, for_failed, settings.topic_failed, stop)
            senders = _Senders(settings, store, rules, policy, stop, bell, links)
            dispatch = Dispatch(
                settings, store, senders.journal, policy, stop, keep=kept_for(settings), bell=for_webhooks
            )
            work: list[Work] = [
                ("intake", intake.run),
                ("failed-topic", failed.run),
                ("upkeep", _upkeep(settings, store, policy, stop).run),
                ("leases", functools.partial(senders.journal.keep_alive, stop)),
                ("journal", functools.partial(senders.journal.write_soon, stop)),
                *senders.mail(server, timeouts, breaker or Breaker()),
                *senders.others(),
                ("webhooks", dispatch.run),
            ]
            _warn_of_unserved(settings, store, rules)
            logger.info("Sending mails by %s", server.address, extra={"action": "notify_started"})
            _run_threads(work, stop, bell)


def _warn_of_unserved(settings: Settings, store: Store, rules: Rules) -> None:
    """Name the channels that the rules no longer have although notifications wait for them."""
    for channel, waiting in store.ledger.unserved(list(rules.channels)).items():
        detail, fix = lacks(settings, channel, waiting)
        logger.warning("%s; %s", detail, fix, extra={"action": "no_such_channel", "channel": channel})


class _Bell(threading.Event):
    """Rings another bell too: clearing one of them leaves the other."""

    def __init__(self, other: threading.Event) -> None:
        super().__init__()
        self._other = other

    def set(self) -> None:
        super().set()
        self._other.set()


def policy_of(settings: Settings) -> Policy:
    """The senders' policy from the settings."""
    return Policy(
        settings.notify_tries,
        settings.notify_retry_base,
        settings.notify_retry_cap,
        resend_unknown=settings.notify_on_unknown == "resend",
        give_up=settings.notify_retry_days * _DAY,
    )


def unsubscribe_links(settings: Settings, store: Store) -> UnsubscribeLinks | None:
    """The maker of unsubscribe links, or None without a public address."""
    return UnsubscribeLinks(store.secret(), settings.public_url) if settings.public_url else None


def open_channel(config: ChannelConfig) -> Channel:
    """A channel beside mail. Raises ConfigurationError."""
    if config.kind == "webhook":
        return WebhookChannel(config.url, config.secret)
    return AppriseChannel(config.name, config.url)


def _upkeep(settings: Settings, store: Store, policy: Policy, stop: Stop) -> Upkeep:
    return Upkeep(
        store.ledger,
        stop,
        keep=kept_for(settings),
        texts=_texts(settings, store),
        resend=policy.resend_unknown,
        every=policy.expire_every,
    )


def _texts(settings: Settings, store: Store) -> Texts | None:
    if not settings.notify_text_days:
        return None
    # The days count from the sending, which is at most so much later than the creation.
    days = settings.notify_text_days + settings.notify_retry_days
    return Texts(store.ledger, store.facts, days * _DAY)


class _Senders:
    """The senders of a process, and their shared objects."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        rules: Rules,
        policy: Policy,
        stop: Stop,
        bell: threading.Event,
        links: UnsubscribeLinks | None,
    ) -> None:
        self._settings = settings
        self._recipients = store.recipients
        self._rules = rules
        self._policy = policy
        self._stop = stop
        self._bell = bell
        self._links = links
        self.journal = Journal(store.ledger, policy.lease)
        limits = Limits(settings.notify_cap, settings.notify_rate)
        self._gate = Gate(store.ledger, store.recipients, limits, rules.always)
        self._no_gate = Gate(store.ledger, store.recipients, Limits(), {rule.name for rule in rules.rules})

    def mail(self, server: Server, timeouts: Timeouts, breaker: Breaker) -> Iterator[Work]:
        sender = sender_address(self._settings.mail_from)
        for number in range(1, self._settings.notify_connections + 1):
            channel = MailChannel(SmtpTransport(server, timeouts), sender, self._unsubscribe)
            yield f"sender-{number}", self._sender(MAIL, channel, self._gate, breaker)

    def others(self) -> Iterator[Work]:
        for name, config in self._rules.channels.items():
            yield f"sender-{name}", self._sender(name, open_channel(config), self._no_gate, Breaker())

    def _sender(self, name: str, channel: Channel, gate: Gate, breaker: Breaker) -> Callable[[], None]:
        return Sender(
            name,
            channel,
            self.journal,
            gate,
            breaker,
            self._policy,
            self._stop,
            bell=self._bell,
            on_bad_address=self._bounced,
        ).run

    def _unsubscribe(self, notification: Notification) -> str | None:
        if self._links is None or notification.customer_id is None or notification.rule in self._rules.always:
            return None
        return self._links.url(notification.customer_id)

    def _bounced(self, address: str, reason: str) -> None:
        """Suppress a nonexistent address for a while: servers distrust senders that keep using it."""
        seconds = self._settings.notify_bounce_days * _DAY
        try:
            self._recipients.suppress(address_key(address), "bounce", detail=reason, seconds=seconds)
        except TemporaryError as exc:
            logger.warning("A refused address was not kept: %s", exc, extra={"action": "suppress_failed"})


def _run_threads(work: list[tuple[str, Callable[[], None]]], stop: Stop, bell: threading.Event) -> None:
    errors: list[BaseException] = []

    def guarded(run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as exc:  # noqa: BLE001 - raised again in the main thread
            errors.append(exc)
        finally:
            # If one of the threads ends, all end.
            stop.ask()

    threads = [threading.Thread(target=guarded, args=(run,), name=name, daemon=True) for name, run in work]
    for thread in threads:
        thread.start()
    # In short steps, so that signals are heard.
    while not stop.wait(1.0):
        pass
    deadline = time.monotonic() + _GRACE
    for thread in threads:
        bell.set()
        thread.join(max(0.0, deadline - time.monotonic()))
    if late := [thread.name for thread in threads if thread.is_alive()]:
        logger.warning("Left behind: %s", ", ".join(late), extra={"action": "left_behind"})
    if errors:
        raise errors[0]
