"""A refusal of the schema registry has its reason and its repair: what is set wrongly is no outage."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import trustme

from custsvc.config import Settings
from custsvc.doctor.checks import addresses
from custsvc.errors import ConfigurationError, CustsvcError, TemporaryError
from custsvc.kafka.registry import Registry, Schema
from tests.processes import run_custsvc
from tests.schema_registry import SchemaRegistry

OPTION: Final = "CUSTSVC_SCHEMA_REGISTRY_OPTIONS__"
USER, PASSWORD = "relay", "right-horse:battery"
SCHEMA: Final = Schema("AVRO", '"string"')
Options = dict[str, str]

SIGNED_IN: Final = {"basic.auth.user.info": f"{USER}:{PASSWORD}"}
CA: Final = {"ssl.ca.location": "CA"}
MUTUAL: Final = {**CA, "ssl.certificate.location": "CERT", "ssl.key.location": "KEY"}

# A registry, options, what the error must say, and what its fix must name.
WRONG: Final[dict[str, tuple[str, Options, str, str]]] = {
    "wrong password": (
        "clear",
        {"basic.auth.user.info": f"{USER}:x"},
        "refuses this account: Unauthorized",
        "BASIC_AUTH_USER_INFO",
    ),
    "no password": ("clear", {}, "refuses this account", "CUSTSVC_SCHEMA_REGISTRY_URL"),
    "half a password": ("clear", {"basic.auth.user.info": USER}, "form of", "BASIC_AUTH_USER_INFO"),
    "wrong path": ("path", SIGNED_IN, "answers 404, and is no schema registry", "with its path"),
    "no CA": ("tls", SIGNED_IN, "unable to get local issuer certificate", "SSL_CA_LOCATION"),
    "wrong CA": (
        "tls",
        {**SIGNED_IN, "ssl.ca.location": "OTHER"},
        "unable to get local issuer certificate",
        "SSL_CA_LOCATION",
    ),
    "no file of a CA": (
        "tls",
        {**SIGNED_IN, "ssl.ca.location": "/nowhere"},
        "No such file",
        f"{OPTION}SSL_CA_LOCATION",
    ),
    "junk as a CA": ("tls", {**SIGNED_IN, "ssl.ca.location": "JUNK"}, "", f"{OPTION}SSL_CA_LOCATION"),
    "expired certificate": ("expired", {**SIGNED_IN, **CA}, "certificate has expired", "authority"),
    "other name": ("elsewhere", {**SIGNED_IN, **CA}, "not valid for '127.0.0.1'", "certificate"),
    "no client certificate": (
        "mutual",
        {**SIGNED_IN, **CA},
        "certificate required",
        "SSL_CERTIFICATE_LOCATION",
    ),
    "client certificate of others": (
        "mutual",
        {**SIGNED_IN, **CA, "ssl.certificate.location": "STRANGE", "ssl.key.location": "STRANGE"},
        "unknown ca",
        "SSL_CERTIFICATE_LOCATION",
    ),
    "key of another": (
        "mutual",
        {**SIGNED_IN, **MUTUAL, "ssl.key.location": "STRANGE"},
        "KEY_VALUES_MISMATCH",
        "SSL_",
    ),
    "a key without its certificate": (
        "mutual",
        {**SIGNED_IN, **CA, "ssl.key.location": "KEY"},
        "ssl.certificate.location required",
        "SSL_KEY_LOCATION",
    ),
    "TLS to a clear port": ("tls to clear", SIGNED_IN, "no TLS", "http://"),
    "an unknown option": ("clear", {**SIGNED_IN, "ssl.ca.locaton": "x"}, "ssl.ca.locaton", "SSL_CA_LOCATON"),
    "no number": ("clear", {**SIGNED_IN, "timeout": "soon"}, f"{OPTION}TIMEOUT", "number"),
    "no address": ("ftp", SIGNED_IN, "Invalid url", "CUSTSVC_SCHEMA_REGISTRY_URL"),
}
AWAY: Final[dict[str, tuple[str, str]]] = {
    "wrong port": ("http://127.0.0.1:1", "refused"),
    "unknown host": ("http://registry.invalid", "cannot reach"),
    "its store is away": ("failing", "answers 500"),
    "clear text to a TLS port": ("clear to tls", "does not answer"),
}


class Places(NamedTuple):
    """The registries' addresses, and the files of certificates, by the words of the cases."""

    urls: dict[str, str]
    files: dict[str, str]

    def settings(self, registry: str, options: Options) -> Settings:
        found = {name: self.files.get(value, value) for name, value in options.items()}
        return Settings(schema_registry_url=self.urls.get(registry, registry), schema_registry_options=found)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    folder = tmp_path_factory.mktemp("registry")
    ours, other = trustme.CA(), trustme.CA()
    past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    certificates = {
        "tls": ours.issue_cert("127.0.0.1"),
        "mutual": ours.issue_cert("127.0.0.1"),
        "expired": ours.issue_cert("127.0.0.1", not_after=past, not_before=past - dt.timedelta(1)),
        "elsewhere": ours.issue_cert("registry.example.org"),
    }
    with ExitStack() as stack:
        served = {"clear": stack.enter_context(SchemaRegistry(user=f"{USER}:{PASSWORD}"))}
        for name, certificate in certificates.items():
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.configure_cert(tls)
            if name == "mutual":
                ours.configure_trust(tls)
                tls.verify_mode = ssl.CERT_REQUIRED
            served[name] = stack.enter_context(SchemaRegistry(user=f"{USER}:{PASSWORD}", tls=tls))
        served["failing"] = stack.enter_context(SchemaRegistry())
        served["failing"].failing = True
        urls = {name: each.url for name, each in served.items()}
        urls["path"] = urls["clear"] + "/apis"
        urls["clear to tls"] = urls["tls"].replace("https", "http")
        urls["tls to clear"] = urls["clear"].replace("http", "https")
        urls["ftp"] = "ftp://127.0.0.1"
        yield Places(urls, _files(folder, ours, other))


def _files(folder: Path, ours: trustme.CA, other: trustme.CA) -> dict[str, str]:
    client, strange = ours.issue_cert("relay@example.org"), other.issue_cert("eve@example.org")
    files = {name: folder / f"{name}.pem" for name in ("CA", "OTHER", "CERT", "KEY", "STRANGE", "JUNK")}
    ours.cert_pem.write_to_path(files["CA"])
    other.cert_pem.write_to_path(files["OTHER"])
    client.cert_chain_pems[0].write_to_path(files["CERT"])
    client.private_key_pem.write_to_path(files["KEY"])
    strange.private_key_and_cert_chain_pem.write_to_path(files["STRANGE"])
    files["JUNK"].write_text("junk")
    return {name: str(path) for name, path in files.items()}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told_with_its_repair(places: Places, case: str) -> None:
    registry, options, reason, fix = WRONG[case]

    with pytest.raises(CustsvcError) as caught:
        Registry(places.settings(registry, options)).id_of("updates-value", SCHEMA)

    said = caught.value
    assert isinstance(said, ConfigurationError), said
    assert said.exit_code == 3
    assert reason.lower() in str(said).lower()
    assert fix in (said.fix or "")
    assert PASSWORD not in f"{said} {said.fix}"
    assert len(str(said).splitlines()) == 1


@pytest.mark.parametrize("case", AWAY)
def test_a_registry_that_is_away_is_waited_for(places: Places, case: str) -> None:
    registry, reason = AWAY[case]

    with pytest.raises(TemporaryError, match=reason) as caught:
        Registry(places.settings(registry, {})).id_of("updates-value", SCHEMA)

    assert caught.value.dependency == "registry"


@pytest.mark.parametrize(
    ("registry", "options"),
    [
        ("clear", SIGNED_IN),
        ("tls", {**SIGNED_IN, **CA}),
        ("mutual", {**SIGNED_IN, **MUTUAL}),
        ("mutual", {**SIGNED_IN, **CA, "ssl.certificate.location": "CERT", "ssl.key.location": "KEY"}),
    ],
)
def test_what_is_right_works(places: Places, registry: str, options: Options) -> None:
    assert Registry(places.settings(registry, options)).register("right-value", SCHEMA) == 1


def test_user_and_password_may_be_in_the_address(places: Places) -> None:
    url = places.urls["clear"].replace("://", "://relay:right-horse%3Abattery@")

    assert Registry(Settings(schema_registry_url=url)).register("right-value", SCHEMA) == 1


# -- doctor -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["wrong password", "no CA", "wrong path"])
def test_doctor_and_config_check_say_what_is_wrong(places: Places, case: str) -> None:
    registry, options, reason, fix = WRONG[case]
    settings = places.settings(registry, options)

    (found,) = (each for each in addresses(settings) if each.check == "schema registry")

    assert found.level == "failed"
    assert reason in found.detail
    assert fix in (found.fix or "")


# -- the command --------------------------------------------------------------------------------------------


def run(url: str, *arguments: str, **options: str) -> Any:
    given = {f"CUSTSVC_{name}": value for name, value in options.items()}
    env = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "CUSTSVC_SCHEMA_REGISTRY_URL": url, **given}
    return run_custsvc("topics", "schema", *arguments, env=env, cwd=Path("/"))


@pytest.mark.parametrize("event_format", ["json-schema", "avro"])
def test_the_schema_is_checked_registered_and_found_again(event_format: str) -> None:
    with SchemaRegistry() as registry:
        ours = ("--format", event_format)
        before = run(registry.url, "check", *ours)
        made = run(registry.url, "register", "--compatibility", "BACKWARD", *ours, "-o", "json")
        after = run(registry.url, "check", EVENT_FORMAT=event_format)
        registry.refusing.add("MICROSERVICE-CUSTOMER-UPDATES-value")
        registry.subjects["MICROSERVICE-CUSTOMER-UPDATES-value"] = [registry.put("x", '"string"')]
        refused, not_made = run(registry.url, "check", *ours), run(registry.url, "register", *ours)

    assert (before.returncode, made.returncode, after.returncode) == (0, 0, 0)
    assert "not registered yet" in before.stderr
    assert '"id": 1' in made.stdout
    assert "is registered" in after.stderr
    assert registry.asked["PUT /config/MICROSERVICE-CUSTOMER-UPDATES-value"] == 1
    assert (refused.returncode, not_made.returncode) == (7, 3)
    assert "docs/registry.md" in refused.stderr


def test_the_commands_exit_says_what_kind_of_error_it_is(places: Places, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{USER}:{PASSWORD}\n")
    option = "SCHEMA_REGISTRY_OPTIONS__BASIC_AUTH_USER_INFO"

    right = run(places.urls["clear"], "check", **{f"{option}_FILE": str(secret)})
    wrong = run(places.urls["clear"], "check", **{option: "relay:guessed-wrong"})
    away = run("http://127.0.0.1:1", "check")
    unset = run("", "check")

    assert (right.returncode, wrong.returncode, away.returncode, unset.returncode) == (0, 3, 4, 3), (
        wrong.stderr
    )
    assert "guessed-wrong" not in wrong.stdout + wrong.stderr
    assert "set CUSTSVC_SCHEMA_REGISTRY_URL" in unset.stderr


def test_a_format_without_a_registry_is_refused_by_every_command() -> None:
    done = run("", "print", EVENT_FORMAT="avro")

    assert done.returncode == 3
    assert "set CUSTSVC_SCHEMA_REGISTRY_URL" in done.stderr
