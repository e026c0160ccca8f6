"""Whatever mail servers and receivers answer: the role goes on, good neighbours pass, all is accounted for.

Servers answer any bytes, in any order, after any delay, and break off anywhere: for some seconds here,
for an hour with `--long`. A failure names its seed.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from custsvc.config import Settings
from custsvc.notify.channels.server import Timeouts
from custsvc.notify.run import run_notify
from custsvc.notify.sending.sender import Policy
from custsvc.ports.ledger import Ledger, Notification
from tests.waiting import until

from .conftest import mail
from .role import running
from .scripted import DROP, Action, Asked, ScriptedHttp, ScriptedSmtp, chunked, http, polite

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
RULES = '[channel.crm]\nkind = "webhook"\nurl = "{url}"\nsecret = "{secret}"\n'
WAITING = ("queued", "deferred", "claimed", "handing_over")
# A good mail may meet several moments in which nobody is answered: of 614, one met 8.
POLICY = Policy(16, 0.05, 0.5, idle=0.05, lease=60.0, expire_every=0.5, give_up=3600.0)
# Short, as most that is waited for here never comes; what is in time on this machine is in time by far.
HASTY = Timeouts(connect=10, command=3, data=3, greeting=3, recipient=3, begin=3, block=10)
CODES = [
    b"200",
    b"220",
    b"235",
    b"250",
    b"251",
    b"334",
    b"354",
    b"400",
    b"421",
    b"450",
    b"452",
    b"500",
    b"550",
    b"551",
]
CODES += [b"554", b"000", b"999", b"-25", b"2 5", b"abc", b"\x00\x00\x00", b"", b"25"]
WORDS = [b"OK", b"5.1.1 gone", b"5.7.1 no", b"\x00", b"\xff\xfe", b"a\rb", b"=?utf-8?q?x?=", b"x" * 9000, b""]


def noise(rng: random.Random) -> bytes:
    """Bytes that no protocol has."""
    return rng.randbytes(rng.choice([0, 1, 3, 80, 3000]))


def reply(rng: random.Random, lines: int) -> bytes:
    """A reply of SMTP, right or wrong."""
    said = [rng.choice(CODES) + rng.choice([b" ", b" ", b"-", b""]) + rng.choice(WORDS) for _ in range(lines)]
    return rng.choice([b"\r\n", b"\r\n", b"\n", b""]).join([*said, b""])


def odd(rng: random.Random, right: bytes, wrong: bytes, line: bytes) -> list[Action]:
    """The behaviour of a faulty server. A late answer is one line: of several, one could be any answer."""
    pause = rng.choice([0.01, 0.2])
    half = len(line) // 2
    kinds: list[list[Action]] = [
        [right],
        [wrong],
        [pause, wrong],
        [right + wrong],
        [wrong + right],
        [right, pause, b"250 OK\r\n"],
        [right, pause, b"421 bye\r\n", DROP],
        [right, DROP],
        [wrong, DROP],
        [DROP],
        [noise(rng), DROP],
        [line[:half], pause, line[half:]],
        [b"2", 4.0, b"50 late\r\n"],
        [4.0],
    ]
    return rng.choice(kinds)


class Mischief:
    """Answers everybody whose name begins with `odd` oddly, and sometimes all, for a moment."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self._bad_until = 0.0
        self.is_over = False

    def _is_bad(self) -> bool:
        if time.monotonic() > self._bad_until + 3.0 and self.rng.random() < 0.02:
            self._bad_until = time.monotonic() + self.rng.random()
        return time.monotonic() < self._bad_until

    def smtp(self, asked: Asked) -> list[Action]:
        right = polite(asked)
        if self.is_over or not (
            asked.recipient.startswith("odd") and asked.word in ("RCPT", "DATA", "TEXT", "RSET")
        ):
            return [DROP] if not self.is_over and asked.word != "TEXT" and self._is_bad() else right
        wrong = reply(self.rng, self.rng.choice([1, 3]))
        return odd(self.rng, _joined(right), wrong, reply(self.rng, 1))

    def http(self, name: str) -> list[Action]:
        rng, right = self.rng, http()
        if self.is_over or not name.startswith("odd"):
            return [DROP] if not self.is_over and self._is_bad() else right
        code = rng.choice([200, 204, 301, 400, 409, 429, 500, 503, 999])
        wrong = rng.choice(
            [
                http(code, noise(rng)),
                http(code, noise(rng), retry_after=rng.choice(["0", "1", "-1", "soon", "9" * 400])),
                chunked(code, noise(rng), b"x" * 2000),
                chunked(code, noise(rng), end=b""),
                http(code, b"", transfer_encoding="chunked"),
            ]
        )
        return odd(rng, _joined(right), _joined(wrong), _joined(wrong))


def _joined(actions: list[Action]) -> bytes:
    return b"".join(action for action in actions if isinstance(action, bytes))


@pytest.fixture
def mischief() -> Mischief:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    return Mischief(random.Random(seed))


@pytest.fixture
def smtp(mischief: Mischief) -> Iterator[ScriptedSmtp]:
    with closing(ScriptedSmtp(mischief.smtp)) as server:
        yield server


@pytest.fixture
def receiver(mischief: Mischief) -> Iterator[ScriptedHttp]:
    with closing(ScriptedHttp(mischief.http)) as server:
        yield server


def hook(name: str, customer: int) -> Notification:
    text = '{"op":"created"}'
    return Notification(
        name, f"event-{name}", customer, 1, "hook", "crm", "created", text, None, channel="crm"
    )


def rows(number: int) -> list[Notification]:
    """A mail and a call, to good ones and to odd ones."""
    return [
        mail(f"good-m{number}", customer=4 * number, to=f"good{number}@example.com"),
        mail(f"odd-m{number}", customer=4 * number + 1, to=f"odd{number}@example.com"),
        hook(f"good-h{number}", 4 * number + 2),
        hook(f"odd-h{number}", 4 * number + 3),
    ]


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(12, id="12s"),
        pytest.param(1800, id="30min", marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
)
def test_no_answer_ends_the_role_and_everything_is_accounted_for(
    seconds: float,
    settings: Settings,
    ledger: Ledger,
    smtp: ScriptedSmtp,
    receiver: ScriptedHttp,
    mischief: Mischief,
    tmp_path: Path,
) -> None:
    file = tmp_path / "notify.toml"
    file.write_text(RULES.format(url=receiver.url, secret=SECRET))
    mine = settings.replace(smtp_url=smtp.url, notify_rules=str(file), notify_connections=3, notify_cap=0)
    added = 0

    with running(lambda stop: run_notify(mine, stop, policy=POLICY, timeouts=HASTY)):
        until_ = time.monotonic() + seconds
        while time.monotonic() < until_:
            # No more than what is sent: what waits at the end is to be settled in time on any machine.
            if sum(ledger.counts(WAITING).values()) < 100:
                ledger.add(rows(added))
                added += 1
            time.sleep(0.1)
        mischief.is_over = True
        until("all are settled", lambda: not ledger.counts(WAITING), 300)

    counts = ledger.counts()
    assert sum(counts.values()) == 4 * added
    names = [row.id for number in range(added) for row in rows(number)]
    found = {
        row.id: row for start in range(0, len(names), 500) for row in ledger.find(names[start : start + 500])
    }
    assert len(found) == 4 * added
    # Good neighbours pass; what broke off after the text may be unknown, and is not sent again.
    good = Counter(row.state for name, row in found.items() if name.startswith("good"))
    assert set(good) <= {"sent", "unknown"}, good
    assert good["sent"] >= 0.9 * good.total()
    assert all(row.reason for row in found.values() if row.state != "sent")
    # No mail that the server said yes to was given to it again.
    assert [name for name, times in smtp.accepted.items() if times > 1] == []
    sent = {name for name, row in found.items() if row.state == "sent" and name.startswith("good-m")}
    assert sent <= set(smtp.accepted)
