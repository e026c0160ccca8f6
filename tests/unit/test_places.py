"""How messages name a port of an IPv6 address: in brackets, as a URL does."""

from __future__ import annotations

import pytest

from custsvc.config import Settings
from custsvc.errors import ConfigurationError
from custsvc.notify.channels.server import Server
from custsvc.runtime.health import examine
from custsvc.runtime.printable import host_port
from custsvc.serve.server import check_port
from custsvc.stores.postgres.connection import address


def test_an_address_of_ipv6_stands_in_brackets() -> None:
    assert [host_port(host, 80) for host in ("::1", "127.0.0.1", "db")] == [
        "[::1]:80",
        "127.0.0.1:80",
        "db:80",
    ]
    assert address("postgresql://ada:x@[::1]:5433/custsvc") == "[::1]:5433/custsvc"
    assert Server.parse("smtp+plain://[::1]:2525").address == "[::1]:2525"


def test_a_port_that_is_not_ours_is_named_as_a_url_names_it() -> None:
    with pytest.raises(ConfigurationError, match=r"cannot listen on \[2001:db8::1\]:8000"):
        check_port("2001:db8::1", 8000)


def test_health_names_the_port_that_it_asked() -> None:
    (found,) = examine(Settings(http_host="::1", http_port=1), "serve")

    assert found.place == "[::1]:1"
