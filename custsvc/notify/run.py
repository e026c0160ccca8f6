"""The role `notify`: intake, senders and the failed topic as threads of one process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from ..config import Settings
from ..errors import ConfigurationError
from ..kafka import Publisher, ensure_topics
from ..stores import open_store
from ..workers.loop import Stop
from .breaker import Breaker
from .failed import FailedTopic
from .intake import Intake
from .message import sender_address
from .sender import Policy, Sender
from .smtp import Server, SmtpTransport, Timeouts

logger = logging.getLogger(__name__)

SENDERS = 2
# From the wish to stop to the end of the process; who manages processes gives them ten seconds.
_GRACE = 8.0


def run_notify(
    settings: Settings,
    stop: Stop,
    *,
    policy: Policy | None = None,
    timeouts: Timeouts | None = None,
    breaker: Breaker | None = None,
    senders: int = SENDERS,
) -> None:
    """Take events and mail requests in and send mails until stop is asked.

    A thread that dies ends the whole, with its error. Threads that still wait for a mail server or for Kafka
    after the grace period are left behind; what they held is taken up by others when its lease is over.
    """
    if not settings.smtp_url:
        raise ConfigurationError("the mail server's address is not set", fix="set CUSTSVC_SMTP_URL")
    server, sender = Server.parse(settings.smtp_url), sender_address(settings.mail_from)
    policy = policy or Policy(settings.notify_tries, settings.notify_retry_base, settings.notify_retry_cap)
    breaker = breaker or Breaker()
    bell = threading.Event()
    with open_store(settings) as store:
        store.migrate()
        ensure_topics(settings)
        ledger = store.ledger
        with Publisher(settings) as for_intake, Publisher(settings) as for_failed:
            work: list[tuple[str, Callable[[], None]]] = [
                ("intake", Intake(settings, ledger, for_intake, stop, bell=bell).run),
                ("failed-topic", FailedTopic(ledger, for_failed, settings.topic_failed, stop).run),
            ]
            for number in range(senders):
                transport = SmtpTransport(server, timeouts)
                one = Sender(ledger, transport, breaker, sender, policy, stop, bell=bell)
                work.append((f"sender-{number + 1}", one.run))
            logger.info("Sending mails by %s", server.address, extra={"action": "notify_started"})
            _run_threads(work, stop, bell)


def _run_threads(work: list[tuple[str, Callable[[], None]]], stop: Stop, bell: threading.Event) -> None:
    errors: list[BaseException] = []

    def guarded(run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as exc:  # noqa: BLE001 - raised again in the main thread
            errors.append(exc)
        finally:
            # Whatever ends one of them ends all.
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
