"""Plain addresses are not shown to the library that checks addresses, and are what it would make of them."""

from __future__ import annotations

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import given
from hypothesis import strategies as st

from custsvc.domain.address import BadAddress, one_address


@given(st.text("abz09._+-A@é ", min_size=1, max_size=66))
def test_a_local_part_is_what_the_library_makes_of_it(local: str) -> None:
    try:
        found = validate_email(f"{local}@example.com", check_deliverability=False).local_part
    except EmailNotValidError:
        with pytest.raises(BadAddress):
            one_address(f"{local}@example.com")
    else:
        assert one_address(f"{local}@example.com").local == found
