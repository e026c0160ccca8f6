"""The partitions of many customers are those of each."""

from __future__ import annotations

import random

import pytest

from custsvc.domain.customers import INT64_MAX
from custsvc.kafka.hashing import partitions_of
from custsvc.kafka.publisher import partition_of


@pytest.mark.parametrize("digits", range(1, 20))
def test_ids_of_each_length_have_the_partition_that_kafka_clients_choose(digits: int) -> None:
    rng = random.Random(digits)
    least, most = 10 ** (digits - 1), min(10**digits - 1, INT64_MAX)
    ids = [least, most, *(rng.randint(least, most) for _ in range(500))]

    assert partitions_of(ids, 12) == [partition_of(b"%d" % each, 12) for each in ids]


@pytest.mark.parametrize("ids", [[], [7], [0] * 20, [-5, *range(20)], [*range(95, 105)], [INT64_MAX] * 9])
def test_so_have_few_ids_and_those_of_different_lengths(ids: list[int]) -> None:
    assert partitions_of(ids, 7) == [partition_of(b"%d" % each, 7) for each in ids]
