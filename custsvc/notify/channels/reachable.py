"""Which addresses a webhook endpoint may have: public ones, and those inside that a setting allows.

The maker of an endpoint chooses what this process connects to. Without this check it could call services
that trust their network: databases, admin pages, a cloud's metadata. The addresses are checked after the name
was resolved, and the connection goes to a checked address, so that a name cannot change in between.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from typing import Final

from ...domain.address import BadAddress, host_name
from ...errors import ConfigurationError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Not public, by the IANA registries of special addresses (RFC 6890), and multicast. Python's `is_global`
# differs between its versions, and takes multicast for global.
_INSIDE: Final = tuple(
    ipaddress.ip_network(each)
    for each in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
        # Of the public range of IPv6: protocols (Teredo among them), documentation, and 6to4.
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
    )
)
_PUBLIC_V6: Final = ipaddress.ip_network("2000::/3")
# Addresses of IPv6 that stand for one of IPv4: mapped ones, and those of NAT64.
_EMBEDDING: Final = tuple(ipaddress.ip_network(each) for each in ("::ffff:0:0/96", "64:ff9b::/96"))


class Forbidden(Exception):
    """The host has an address that endpoints may not call."""


@dataclass(frozen=True, slots=True)
class Reachable:
    """The allowed hosts and networks beside public addresses."""

    hosts: frozenset[str] = frozenset()
    suffixes: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Reachable:
        """Those of CUSTSVC_WEBHOOK_ALLOW. Raises ConfigurationError."""
        hosts, suffixes, networks = set(), [], []
        for word in filter(None, (each.strip().lower() for each in text.split(","))):
            try:
                networks.append(ipaddress.ip_network(word))
                continue
            except ValueError:
                pass
            try:
                name = host_name(word.removeprefix("."))
            except BadAddress as exc:
                raise ConfigurationError(
                    f"CUSTSVC_WEBHOOK_ALLOW has {word!r}, which is no host and no network",
                    fix="write it as crm.internal,.corp.example,10.1.0.0/16",
                ) from exc
            if word.startswith("."):
                suffixes.append(f".{name}")
            else:
                hosts.add(name)
        return cls(frozenset(hosts), tuple(suffixes), tuple(networks))

    def names(self, host: str) -> bool:
        """Whether the setting allows this host by its name, or by the address that it is."""
        host = host.lower().removesuffix(".")
        if host in self.hosts or host.endswith(self.suffixes):
            return True
        address = literal(host)
        return address is not None and any(_in(address, network) for network in self.networks)

    def permits(self, address: Address) -> bool:
        """Whether an address may be called."""
        address = _embedded(address)
        return is_public(address) or any(_in(address, network) for network in self.networks)

    def addresses(self, host: str, port: int) -> list[str]:
        """The addresses to connect to. Raises Forbidden if one of them may not be called, and OSError."""
        found = look_up(host, port)
        if not self.names(host):
            for each in found:
                if not self.permits(ipaddress.ip_address(each)):
                    raise Forbidden(
                        f"not called: {host} is {each}, an address inside; CUSTSVC_WEBHOOK_ALLOW lists the "
                        "hosts and networks inside that may be called"
                    )
        return found


def look_up(host: str, port: int) -> list[str]:
    """All addresses of a host. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def literal(host: str) -> Address | None:
    """The address that a host of a URL is; None if it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_public(address: Address) -> bool:
    """Whether an address belongs to no special range, so that anybody on the internet may have it."""
    address = _embedded(address)
    if address.version == 6 and not _in(address, _PUBLIC_V6):
        return False
    return not any(_in(address, network) for network in _INSIDE)


def _embedded(address: Address) -> Address:
    """The address of IPv4 that one of IPv6 stands for, else the address itself."""
    if any(_in(address, network) for network in _EMBEDDING):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _in(address: Address, network: Network) -> bool:
    return address.version == network.version and address in network
