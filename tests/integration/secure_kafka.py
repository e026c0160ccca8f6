"""A Kafka for the test that needs a password and one that uses TLS, each on its own port."""

from __future__ import annotations

from pathlib import Path

import trustme

from custsvc.local import kafka as embedded
from custsvc.local import ports
from custsvc.local.kafka import Kafka

USER, PASSWORD = "custsvc", "right-horse"
# A user without any rights at first.
LIMITED = "limited"
_JAAS = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required "
    f'username="{USER}" password="{PASSWORD}" user_{USER}="{PASSWORD}" user_{LIMITED}="{PASSWORD}";'
)


class SecureKafka(Kafka):
    """Listens as an embedded one, and in clear text, with a password, by TLS, and with both."""

    port_names: tuple[str, ...] = (*Kafka.port_names, "clear_port", "sasl_port", "tls_port", "sasl_tls_port")
    authority = trustme.CA()

    def _properties(self) -> dict[str, str]:
        found = super()._properties()
        more = {"CLEAR": "clear_port", "SASL": "sasl_port", "TLS": "tls_port", "SASLTLS": "sasl_tls_port"}
        protocols = {"CLEAR": "PLAINTEXT", "SASL": "SASL_PLAINTEXT", "TLS": "SSL", "SASLTLS": "SASL_SSL"}
        for kind in ("listeners", "advertised.listeners"):
            found[kind] += "".join(f",{n}://{ports.HOST}:{self.record[p]}" for n, p in more.items())
        found["listener.security.protocol.map"] += "".join(f",{n}:{p}" for n, p in protocols.items())
        for name in ("sasl", "sasltls"):
            found[f"listener.name.{name}.sasl.enabled.mechanisms"] = "PLAIN"
            found[f"listener.name.{name}.plain.sasl.jaas.config"] = _JAAS
        found["authorizer.class.name"] = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
        found["super.users"] = ";".join(f"User:{name}" for name in ("ANONYMOUS", USER, embedded.USER))
        found |= {"ssl.keystore.type": "PEM", "ssl.keystore.location": str(self._keystore())}
        return found

    def _keystore(self) -> Path:
        certificate = self.authority.issue_cert("127.0.0.1", "localhost")
        path = self.folder / "keystore.pem"
        chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
        path.write_bytes(_as_pkcs8(certificate.private_key_pem.bytes()) + chain)
        return path

    def at(self, name: str) -> str:
        """The address of a listener, by the name of its port."""
        return f"{ports.HOST}:{self.record[name]}"


def _as_pkcs8(key: bytes) -> bytes:
    """Java reads a private key in no other form."""
    from cryptography.hazmat.primitives import serialization as s

    loaded = s.load_pem_private_key(key, None)
    return loaded.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
