"""A PostgreSQL and a MongoDB for the tests that accept TLS only, and need a password."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import trustme
from pymongo import MongoClient

from custsvc.local import postgres
from custsvc.local.mongod import Mongod
from custsvc.local.postgres import Postgres
from tests.addresses import changed

AUTHORITY: Final = trustme.CA()


def write_certificates(folder: Path) -> None:
    """`CA`, `OTHER`, `JUNK`, and key and certificate of two clients; `stranger` is of the other CA."""
    other = trustme.CA()
    AUTHORITY.cert_pem.write_to_path(str(folder / "CA"))
    other.cert_pem.write_to_path(str(folder / "OTHER"))
    (folder / "JUNK").write_text("-----BEGIN CERTIFICATE-----\njunk\n")
    for name, authority in (("client", AUTHORITY), ("stranger", other)):
        certificate = authority.issue_cert("client@example.org")
        certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / name))
        (folder / name).chmod(0o600)


class SecurePostgres(Postgres):
    """By TLS only; `locked` wants a certificate of the client too. Of the system's binaries."""

    @cached_property
    def _binaries(self) -> Path:
        found = postgres._system_binaries()
        assert found is not None
        return found

    def prepare(self) -> None:
        super().prepare()
        certificate = AUTHORITY.issue_cert("127.0.0.1")
        key = self._base / "server.key"
        chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
        for path, content in ((key, certificate.private_key_pem.bytes()), (self._chain, chain)):
            path.write_bytes(content)
            path.chmod(0o600)
            if (account := self.account()) is not None:
                os.chown(path, account.uid, account.gid)
        (self._base / "ca.crt").write_bytes(AUTHORITY.cert_pem.bytes())
        (self._base / "data" / "pg_hba.conf").write_text(
            "hostssl locked all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n"
            "hostssl all all 127.0.0.1/32 scram-sha-256\n"
        )

    @property
    def _chain(self) -> Path:
        return self._base / "server.crt"

    def command(self) -> Sequence[str | Path]:
        files = {"ssl_key_file": "server.key", "ssl_cert_file": "server.crt", "ssl_ca_file": "ca.crt"}
        settings = ["-c", "ssl=on"]
        for name, file in files.items():
            settings += ["-c", f"{name}={self._base / file}"]
        return [*super().command(), *settings]

    def _url(self, database: str) -> str:
        return f"{super()._url(database)}?sslmode=verify-full&sslrootcert={self.folder.parent / 'CA'}"


class SecureMongod(Mongod):
    """By TLS only, with clients that have a certificate."""

    @property
    def url(self) -> str:
        folder = self.folder.parent
        return f"{super().url}&tls=true&tlsCAFile={folder / 'CA'}&tlsCertificateKeyFile={folder / 'client'}"

    def prepare(self) -> None:
        super().prepare()
        certificate = AUTHORITY.issue_cert("127.0.0.1")
        certificate.private_key_and_cert_chain_pem.write_to_path(str(self.folder / "server.pem"))

    def command(self) -> Sequence[str | Path]:
        tls = ("--tlsMode", "requireTLS", "--tlsCertificateKeyFile", self.folder / "server.pem")
        return [*super().command(), *tls, "--tlsCAFile", self.folder.parent / "CA"]

    def _client(self, user: str, password: str | None, source: str) -> MongoClient[dict[str, Any]]:
        return MongoClient(
            changed(self.url, {"login": None, "replicaSet": None, "authSource": source}),
            username=user,
            password=password,
            directConnection=True,
            serverSelectionTimeoutMS=1000,
        )
