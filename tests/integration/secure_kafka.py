"""A Kafka for the tests as enterprises have it: one port for each way to sign in and encrypt."""

from __future__ import annotations

import datetime as dt
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import trustme
from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)
from cryptography.hazmat.primitives import serialization as s

from custsvc.config import Settings
from custsvc.kafka import acls
from custsvc.kafka import client as kafka
from custsvc.local import jars, ports
from custsvc.local import kafka as embedded
from custsvc.local.kafka import Kafka
from custsvc.local.state import State
from tests.integration.token_provider import TokenProvider
from tests.waiting import until

USER, PASSWORD = "custsvc", "right-horse"
# Users without any rights at first: one signs in by password, one by certificate or token.
LIMITED, SERVICE = "limited", "service"
KEY_PASSWORD = "battery-staple"
SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")

# Each listener: its port's name, its protocol, and the names in its certificate (none: those of the host).
_LISTENERS: dict[str, tuple[str, str]] = {
    "CLEAR": ("clear_port", "PLAINTEXT"),
    "SASL": ("sasl_port", "SASL_PLAINTEXT"),
    "TLS": ("tls_port", "SSL"),
    "SASLTLS": ("sasl_tls_port", "SASL_SSL"),
    "MUTUAL": ("mutual_port", "SSL"),
    "EXPIRED": ("expired_port", "SSL"),
    "ELSEWHERE": ("elsewhere_port", "SSL"),
}
_TOKENS = "org.apache.kafka.common.security.oauthbearer"


class SecureKafka(Kafka):
    """Listens as an embedded one, and on a port for each way to sign in."""

    port_names: tuple[str, ...] = (*Kafka.port_names, *(port for port, _ in _LISTENERS.values()))
    authority: trustme.CA
    tokens: TokenProvider

    def _properties(self) -> dict[str, str]:
        found = super()._properties()
        for kind in ("listeners", "advertised.listeners"):
            found[kind] += "".join(
                f",{n}://{ports.HOST}:{self.record[p]}" for n, (p, _) in _LISTENERS.items()
            )
        found["listener.security.protocol.map"] += "".join(f",{n}:{p}" for n, (_, p) in _LISTENERS.items())
        found |= self._passwords("sasl", ("PLAIN", "SCRAM-SHA-512"))
        found |= self._passwords("sasltls", ("PLAIN", *SCRAM, "OAUTHBEARER")) | self._bearers("sasltls")
        for name, certificate in self._certificates().items():
            at = f"listener.name.{name}.ssl"
            path = self._keystore(name, certificate)
            found |= {f"{at}.keystore.type": "PEM", f"{at}.keystore.location": str(path)}
        trusted = self.folder / "trusted.pem"
        trusted.write_bytes(self.authority.cert_pem.bytes())
        found |= {
            "listener.name.mutual.ssl.client.auth": "required",
            "listener.name.mutual.ssl.truststore.type": "PEM",
            "listener.name.mutual.ssl.truststore.location": str(trusted),
            "listener.name.mutual.ssl.principal.mapping.rules": "RULE:^.*CN=([a-z]+).*$/$1/,DEFAULT",
        }
        found["authorizer.class.name"] = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
        found["super.users"] = ";".join(f"User:{name}" for name in ("ANONYMOUS", USER, embedded.USER))
        return found

    def _passwords(self, listener: str, mechanisms: Sequence[str]) -> dict[str, str]:
        at = f"listener.name.{listener}"
        users = "".join(f' user_{name}="{PASSWORD}"' for name in (USER, LIMITED))
        plain = "org.apache.kafka.common.security.plain.PlainLoginModule"
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        return {
            f"{at}.sasl.enabled.mechanisms": ",".join(mechanisms),
            f"{at}.plain.sasl.jaas.config": f"{plain} required{users};",
            **{f"{at}.{name.lower()}.sasl.jaas.config": scram for name in SCRAM},
        }

    def _bearers(self, listener: str) -> dict[str, str]:
        at = f"listener.name.{listener}.oauthbearer.sasl"
        return {
            f"{at}.jaas.config": f"{_TOKENS}.OAuthBearerLoginModule required;",
            f"{at}.server.callback.handler.class": f"{_TOKENS}.OAuthBearerValidatorCallbackHandler",
            f"{at}.oauthbearer.jwks.endpoint.url": self.tokens.keys_url,
            f"{at}.oauthbearer.expected.audience": "kafka",
            f"{at}.oauthbearer.expected.issuer": self.tokens.issuer,
        }

    def _java(self) -> list[str | Path]:
        java, *rest = super()._java()
        return [java, f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={self.tokens.keys_url}", *rest]

    def _certificates(self) -> dict[str, trustme.LeafCert]:
        here = self.authority.issue_cert("127.0.0.1", "localhost")
        yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
        return {
            **dict.fromkeys(("tls", "sasltls", "mutual"), here),
            "expired": self.authority.issue_cert("127.0.0.1", not_after=yesterday),
            "elsewhere": self.authority.issue_cert("kafka.example.org"),
        }

    def _keystore(self, name: str, certificate: trustme.LeafCert) -> Path:
        path = self.folder / f"{name}.pem"
        chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
        path.write_bytes(_as_pkcs8(certificate.private_key_pem.bytes()) + chain)
        return path

    def at(self, name: str) -> str:
        """The address of a listener, by the name of its port."""
        return f"{ports.HOST}:{self.record[name]}"

    # -- what a test needs ----------------------------------------------------------------------------------

    @property
    def home(self) -> Path:
        """The folder with what clients need: see `_write_client_files`."""
        return self.folder.parent

    def settings(self, port: str, options: Mapping[str, str], **more: Any) -> Settings:
        """A client's settings; an option whose value names one of the clients' files has its path."""
        files = {each.name: str(each) for each in self.home.iterdir()}
        found = {name: files.get(value, value) for name, value in options.items()}
        return Settings(kafka=self.at(port), kafka_options=found, **more)

    def as_admin(self) -> Settings:
        """The settings of somebody who may do everything."""
        return Settings(kafka=self.at("clear_port"))

    def finish(self) -> bool:
        """Write the clients' files, and make the users who sign in by SCRAM; true when it is done."""
        self._write_client_files()
        secret = PASSWORD.encode()
        admin = kafka.admin(self.as_admin())
        for kind in SCRAM:  # a request may name a user once
            made = ScramCredentialInfo(ScramMechanism[kind.replace("-", "_")], 4096)
            users = (USER, LIMITED, *(f"custsvc_{role}" for role in acls.ROLES))
            wanted: list[UserScramCredentialAlteration] = [
                UserScramCredentialUpsertion(user, made, secret) for user in users
            ]
            for future in admin.alter_user_scram_credentials(wanted).values():
                future.result(60)
        return True

    def _write_client_files(self) -> None:
        """Write the authority of the brokers, `CA`, and another one; a client's certificates and keys."""
        home, mine = self.home, self.authority.issue_cert("service.example.org", common_name=SERVICE)
        self.authority.cert_pem.write_to_path(str(home / "CA"))
        trustme.CA().cert_pem.write_to_path(str(home / "OTHER"))
        mine.cert_chain_pems[0].write_to_path(str(home / "CERT"))
        mine.private_key_pem.write_to_path(str(home / "KEY"))
        (home / "LOCKED_KEY").write_bytes(_locked(mine.private_key_pem.bytes()))
        (home / "JUNK").write_text("no key\n")
        strange = trustme.CA().issue_cert("service.example.org", common_name=SERVICE)
        strange.cert_chain_pems[0].write_to_path(str(home / "STRANGE_CERT"))
        strange.private_key_pem.write_to_path(str(home / "STRANGE_KEY"))

    def allow(self, bindings: Sequence[AclBinding]) -> None:
        """Add ACLs."""
        admin = kafka.admin(self.as_admin())  # kept: its answers come while it lives
        for future in admin.create_acls(list(bindings)).values():
            future.result(60)

    def forbid(self, bindings: Sequence[AclBinding]) -> None:
        """Take ACLs away."""
        admin = kafka.admin(self.as_admin())
        wanted = [
            AclBindingFilter(
                each.restype,
                each.name,
                each.resource_pattern_type,
                each.principal,
                each.host,
                each.operation,
                each.permission_type,
            )
            for each in bindings
        ]
        for future in admin.delete_acls(wanted).values():
            future.result(60)


def bindings(need: acls.Need, user: str) -> list[AclBinding]:
    """The ACLs that allow a user what is needed."""
    return [
        AclBinding(
            ResourceType[need.resource.upper()],
            need.name,
            ResourcePatternType.PREFIXED if need.prefixed else ResourcePatternType.LITERAL,
            f"User:{user}",
            "*",
            AclOperation[re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).upper()],
            AclPermissionType.ALLOW,
        )
        for operation in need.operations
    ]


@contextmanager
def secure_kafka() -> Iterator[SecureKafka]:
    """A running one. Skips the test where there is no Kafka, only the stand-in."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="custsvc-secure-")))
        server = SecureKafka(home, State(home / "state.json"), lambda _line: None, Event())
        server.authority = trustme.CA()
        server.tokens = stack.enter_context(TokenProvider())
        try:
            server.start()
            stack.callback(server.stop)
            server.wait_ready(300)
        except jars.NoKafka as exc:
            pytest.skip(f"no Kafka here: {exc}")
        if server.is_mock:
            pytest.skip("no Kafka here, only the stand-in")
        until("its users are made", server.finish, despite=KafkaException)
        yield server


def _as_pkcs8(key: bytes) -> bytes:
    """Java reads a private key in no other form."""
    loaded = s.load_pem_private_key(key, None)
    return loaded.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())


def _locked(key: bytes) -> bytes:
    """The key, readable with its password only."""
    lock = s.BestAvailableEncryption(KEY_PASSWORD.encode())
    return s.load_pem_private_key(key, None).private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, lock)
