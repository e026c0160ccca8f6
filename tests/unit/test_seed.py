"""Made-up customers are the same everywhere, and valid."""

from __future__ import annotations

from itertools import islice

from custsvc.domain.canonical import canonical_fields
from custsvc.transfer.seed import made_up


def test_the_same_number_makes_the_same_customers() -> None:
    assert list(made_up(100, 7)) == list(islice(made_up(1000, 7), 100))
    assert list(made_up(100, 7)) != list(made_up(100, 8))


def test_made_up_customers_are_canonical_already() -> None:
    for fields in made_up(2000, 1):
        raw = {"name": fields.name, "email": fields.email, "phone": fields.phone, "metadata": fields.metadata}
        assert canonical_fields(raw) == fields


def test_addresses_are_distinct() -> None:
    assert len({fields.email for fields in made_up(2000, 1)}) == 2000


def test_the_data_has_not_changed_since_it_was_first_published() -> None:
    first = next(made_up(1, 1))

    assert (first.name, first.email) == ("Barbara Singh", "barbara.singh.1.1@example.com")
