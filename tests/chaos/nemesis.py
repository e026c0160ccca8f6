"""A schedule of accidents, made from a seed: the same seed and size make the same accidents.

Accidents are spread over the work, not over time: the n-th one happens when its share of the writes is done,
and the writers wait until it is over. So every accident strikes under load, on a fast machine and a slow one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

ROLES = ("serve", "relay", "replicate", "notify")
LINKS = ("kafka", "source", "copy")
CUTS = ("reset", "blackhole", "blackhole requests", "blackhole replies", "latency", "slow")


class Fault(NamedTuple):
    """One accident: what happens to what, and for how many seconds where it lasts."""

    kind: str
    target: str
    seconds: float

    def __str__(self) -> str:
        lasts = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.kind} {self.target}{lasts}"


def plan(seed: int, *, kills: int, restarts: int, cuts: int, stops: int) -> list[Fault]:
    """N accidents of each kind, shuffled. `restarts` are of each of the broker and both databases."""
    rng = random.Random(seed)
    faults = [
        # Every role dies, and those between the databases die more often.
        *(Fault("kill -9", role, 0) for role in _spread(rng, kills, ROLES, (2, 5, 5, 3))),
        *(Fault("SIGTERM", rng.choice(ROLES), 0) for _ in range(max(1, kills // 10))),
        *(
            Fault(how, server, 0)
            for server in ("kafka", "source", "copy")
            for how in _spread(rng, restarts, ("kill -9 server", "immediate stop of server"), (1, 1))
        ),
        *(
            Fault(cut, rng.choice(LINKS), rng.uniform(2, 6))
            for cut in _spread(rng, cuts, CUTS, (2, 1, 1, 1, 1, 1))
        ),
        *(
            Fault("SIGSTOP", target, rng.uniform(4, 14))
            for target in _spread(rng, stops, ("relay", "replicate", "kafka", "notify"), (3, 3, 2, 1))
        ),
    ]
    rng.shuffle(faults)
    return faults


def _spread(rng: random.Random, count: int, words: Sequence[str], weights: Sequence[int]) -> list[str]:
    """`count` of these words: each one once before any is drawn by its weight."""
    first = rng.sample(words, len(words))[:count]
    return first + rng.choices(words, weights, k=count - len(first))
