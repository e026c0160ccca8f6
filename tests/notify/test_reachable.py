"""Which addresses webhook endpoints may have, judged by Python's own registry, and what is connected to."""

from __future__ import annotations

import ipaddress
import random
import socket
from typing import Any

import pytest
import urllib3.util.connection

from custsvc.errors import ConfigurationError
from custsvc.notify.channels.post import NoAnswer
from custsvc.notify.channels.post import Receiver as Calls
from custsvc.notify.channels.reachable import Forbidden, Reachable, is_public

from .receiver import Receiver

NOBODY = Reachable.parse("")
SPECIAL = """0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.2.0/24
192.168.0.0/16 198.18.0.0/15 224.0.0.0/4 255.255.255.255/32 ::/96 ::1/128 fc00::/7 fe80::/10 fec0::/10
ff00::/8 2001:db8::/32 100::/64 64:ff9b:1::/48 2002:7f00:1::/48""".split()


def some_of(network: Any, rng: random.Random) -> list[Any]:
    """The ends of a network, and some between."""
    first, last = int(network.network_address), int(network.broadcast_address)
    numbers = {first, last, *(rng.randint(first, last) for _ in range(20))}
    return [type(network.network_address)(number) for number in numbers]


@pytest.mark.parametrize("text", SPECIAL)
def test_no_address_of_a_special_range_is_public_in_any_form(text: str) -> None:
    network = ipaddress.ip_network(text)
    for address in some_of(network, random.Random(text)):
        forms = [address]
        if address.version == 4:
            forms += [ipaddress.ip_address(f"{prefix}{address}") for prefix in ("::ffff:", "64:ff9b::", "::")]
        assert [each for each in forms if is_public(each) or NOBODY.permits(each)] == []
        assert Reachable.parse(text).permits(address)


def test_an_address_that_counts_as_public_is_global_in_pythons_registry() -> None:
    rng = random.Random(14)
    found = [ipaddress.IPv4Address(rng.getrandbits(32)) for _ in range(20_000)]
    found += [ipaddress.IPv6Address((2 << 124) | rng.getrandbits(125)) for _ in range(5_000)]

    public = [each for each in found if is_public(each)]

    assert [each for each in public if not each.is_global or each.is_multicast] == []
    assert len(public) > len(found) * 0.8
    assert is_public(ipaddress.ip_address("::ffff:93.184.216.34"))


@pytest.mark.parametrize(
    "host", ["localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "::1", "0", "::ffff:10.0.0.1"]
)
def test_a_host_inside_is_not_called_however_it_is_written(host: str) -> None:
    with pytest.raises(Forbidden, match="CUSTSVC_WEBHOOK_ALLOW"):
        NOBODY.addresses(host, 80)


def spellings(address: Any) -> list[str]:
    """The ways to write an address as the host of a URL, as resolvers and browsers read them."""
    if address.version == 6:
        return [f"[{address}]", f"[{address.exploded}]", f"[{address.compressed.upper()}]"]
    a, b, c, d = address.packed
    number = int(address)
    wide = str.maketrans("0123456789.", "０１２３４５６７８９．")
    return [
        *(f"{address}", f"{address}.", str(number), f"0x{number:x}", f"0X{number:X}", f"0{number:o}"),
        *(f"{a}.{number & 0xFFFFFF}", f"{a}.{b}.{number & 0xFFFF}", f"0x{a:x}.{b}.0{c:o}.{d}"),
        *(f"0{a:o}.0{b:o}.0{c:o}.0{d:o}", f"{a:03d}.{b}.{c}.{d}", str(address).translate(wide)),
        *(f"%{ord(str(a)[0]):x}{str(address)[1:]}", f"{a}。{b}。{c}。{d}"),
        *(
            f"[::ffff:{address}]",
            f"[64:ff9b::{address}]",
            f"[::{address}]",
            f"[2002:{a:02x}{b:02x}:{c:02x}{d:02x}::]",
        ),
    ]


@pytest.mark.parametrize("text", SPECIAL)
def test_no_spelling_of_an_address_leads_inside(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def refuse(to: tuple[str, int], *_: Any, **__: Any) -> Any:
        tried.append(to[0])
        raise OSError("nothing is there")

    monkeypatch.setattr(urllib3.util.connection, "create_connection", refuse)

    for address in some_of(ipaddress.ip_network(text), random.Random(text))[:8]:
        for host in spellings(address):
            with pytest.raises((NoAnswer, ValueError)):  # BadAddress, and what urlsplit says
                Calls(f"http://{host}:8000/", 60.0, NOBODY).post(b"{}", {})
    # 010.0.0.1 is 8.0.0.1: who reads it otherwise has checked another address than it connects to.
    assert [each for each in tried if not is_public(ipaddress.ip_address(each))] == []


def test_the_connection_goes_to_the_address_that_was_checked(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked, answers = socket.getaddrinfo, [], ["127.0.0.1"]

    def resolve(host: Any, port: Any, *args: Any, **how: Any) -> Any:
        if host == "crm.example.com":
            asked.append(host)
            return [entry for answer in answers for entry in real(answer, port, *args, **how)]
        return real(host, port, *args, **how)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    url = f"http://crm.example.com:{receiver.port}/hook"

    for refused in (["127.0.0.1"], ["93.184.216.34", "127.0.0.1"]):
        answers[:] = refused
        with pytest.raises(NoAnswer, match=r"crm\.example\.com is 127\.0\.0\.1"):
            Calls(url, 20.0, NOBODY).post(b"{}", {})
    assert receiver.got == []

    answers[:], asked[:] = ["127.0.0.1"], []
    for allowed in ("127.0.0.0/8", "crm.example.com", ".example.com"):
        assert Calls(url, 20.0, Reachable.parse(allowed)).post(b"{}", {}).status == 200
    assert len(asked) == len(receiver.got) == 3
    assert {headers["host"] for _, headers, _ in receiver.got} == {f"crm.example.com:{receiver.port}"}


@pytest.mark.parametrize("text", ["10.0.0.1/8", "a b", "http://x", "-", "10.0.0.0/33"])
def test_a_malformed_list_of_allowed_hosts_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="CUSTSVC_WEBHOOK_ALLOW"):
        Reachable.parse(text)
