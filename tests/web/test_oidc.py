"""Sign-in through an OpenID Connect provider: a small one of the tests, over HTTP."""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask, jsonify, request
from joserfc import jwt
from joserfc.jwk import RSAKey
from werkzeug.serving import make_server

from custsvc.config import Settings
from custsvc.ports.store import Store
from custsvc.serve import create_app
from tests.sizes import on_one

from .conftest import Visitor, words

KEY = RSAKey.generate_key(2048, {"kid": "k1"})
BACK = "/ui/sign-in/oidc/callback"


class Provider:
    """Gives a code for each request, and a token for the code where the verifier fits."""

    def __init__(self) -> None:
        self.app = Flask("provider")
        self.app.add_url_rule("/.well-known/openid-configuration", "discover", self.discover)
        self.app.add_url_rule("/keys", "keys", lambda: jsonify(keys=[KEY.as_dict(private=False)]))
        self.app.add_url_rule("/token", "token", self.token, methods=["POST"])
        self.server = make_server("127.0.0.1", 0, self.app)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        self.claims: dict[str, Any] = {}
        self.key = KEY
        self.asked: dict[str, str] = {}
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def discover(self) -> Any:
        return jsonify(
            issuer=self.issuer,
            authorization_endpoint=f"{self.issuer}/authorize",
            token_endpoint=f"{self.issuer}/token",
            jwks_uri=f"{self.issuer}/keys",
        )

    def authorize(self, location: str) -> str:
        """The query with which the person's browser is sent back."""
        self.asked = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
        return f"{BACK}?code=the-code&state={self.asked['state']}"

    def token(self) -> Any:
        digest = hashlib.sha256(request.form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        given = request.authorization
        if challenge != self.asked["code_challenge"] or request.form["code"] != "the-code":
            return jsonify(error="invalid_grant"), 400
        if given is None or (given.username, given.password) != ("custsvc", "a secret"):
            return jsonify(error="invalid_client"), 401
        claims = {
            "iss": self.issuer,
            "aud": "custsvc",
            "sub": "u-1",
            "exp": int(time.time()) + 60,
            "nonce": self.asked["nonce"],
            "email": "ann@example.org",
            "email_verified": True,
            **self.claims,
        }
        id_token = jwt.encode({"alg": "RS256", "kid": "k1"}, claims, self.key)
        return jsonify(access_token="a", token_type="Bearer", id_token=id_token)


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.server.shutdown()
    provider.server.server_close()


@pytest.fixture
def visitor(provider: Provider, settings: Settings, store: Store) -> Visitor:
    configured = settings.replace(
        oidc_issuer=provider.issuer,
        oidc_client_id="custsvc",
        oidc_client_secret="a secret",
        oidc_name="Example ID",
    )
    return Visitor(create_app(configured, store))


def test_somebody_signs_in_and_comes_back_to_the_page(visitor: Visitor, provider: Provider) -> None:
    provider.claims = {"custsvc_role": ["read", "write"]}
    page = visitor.get("/ui/sign-in?next=/ui/mails")
    assert "Continue with Example ID" in words(page)
    before = visitor.cookie()

    there = visitor.get("/ui/sign-in/oidc?next=/ui/mails")
    back = visitor.get(provider.authorize(there.location))

    assert provider.asked["redirect_uri"] == f"http://localhost{BACK}"
    assert provider.asked["code_challenge_method"] == "S256"
    assert (back.status_code, back.location) == (303, "/ui/mails")
    assert visitor.cookie() != before
    visitor.get("/ui/customers/new")
    assert visitor.post("/ui/customers/new", name="Ada").status_code == 303
    assert "ann@example.org" in words(visitor.get("/ui/customers/1"))


def test_a_user_without_a_role_claim_may_read(visitor: Visitor, provider: Provider) -> None:
    visitor.get(provider.authorize(visitor.get("/ui/sign-in/oidc").location))

    assert visitor.get("/ui/customers").status_code == 200
    assert visitor.get("/ui/customers/new").status_code == 403


def test_a_token_signed_by_another_signs_nobody_in(visitor: Visitor, provider: Provider) -> None:
    provider.key = RSAKey.generate_key(2048, {"kid": "k1"})

    visitor.get(provider.authorize(visitor.get("/ui/sign-in/oidc").location))

    assert visitor.get("/ui/customers").status_code == 303


def test_an_answer_to_another_sign_in_is_refused(visitor: Visitor, provider: Provider) -> None:
    provider.authorize(visitor.get("/ui/sign-in/oidc").location)

    forged = visitor.get(f"{BACK}?code=the-code&state=another")
    stranger = Visitor(visitor.client.application).get(
        f"{BACK}?code=the-code&state={provider.asked['state']}"
    )

    assert forged.location == stranger.location == "/ui/sign-in"
    assert visitor.get("/ui/customers").status_code == 303


def test_a_provider_that_is_away_is_reported(visitor: Visitor, provider: Provider) -> None:
    provider.server.shutdown()
    provider.server.server_close()

    answer = visitor.get("/ui/sign-in/oidc")

    assert answer.location == "/ui/sign-in"
    assert "did not work" in words(visitor.get("/ui/sign-in"))


def test_an_answer_is_good_for_one_sign_in(visitor: Visitor, provider: Provider) -> None:
    seal = visitor.get("/ui/sign-in/oidc")
    back = provider.authorize(seal.location)
    sealed = visitor.client.get_cookie("custsvc_oidc", "localhost", "/ui/sign-in/oidc")
    assert visitor.get(back).location == "/ui/customers"

    thief = Visitor(visitor.client.application)
    assert sealed is not None
    thief.client.set_cookie("custsvc_oidc", sealed.value, domain="localhost", path="/ui/sign-in/oidc")

    assert thief.get(back).location == "/ui/sign-in"
    assert thief.get("/ui/customers").status_code == 303


@pytest.mark.parametrize(
    "query", ["state=é", "state=%00", "state=%ed%a0%80", "state=", "code=x", "error=é%00", "state=a&state=b"]
)
@on_one("postgres")
def test_an_answer_that_no_provider_gives_is_refused(
    visitor: Visitor, provider: Provider, query: str
) -> None:
    visitor.get("/ui/sign-in/oidc")

    answer = visitor.get(f"{BACK}?{query}")

    assert answer.status_code in (303, 400)
    assert visitor.get("/ui/customers").status_code == 303


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"},
        {"aud": "another"},
        {"iss": "https://evil.example"},
        {"exp": 1},
        {"sub": None},
        {"aud": ["custsvc", "another"]},
        {"aud": ["custsvc", "another"], "azp": "another"},
        {"azp": "another"},
        {"azp": ["custsvc"]},
        {"sub": 7},
        {"sub": ""},
        {"sub": "a\0b"},
        {"sub": "a" * 256},
        {"sub": ["ann"]},
        {"exp": "never"},
    ],
    ids=str,
)
@on_one("postgres")
def test_a_token_that_is_not_clearly_for_us_and_of_somebody_signs_nobody_in(
    visitor: Visitor, provider: Provider, claims: dict[str, Any]
) -> None:
    provider.claims = claims

    back = visitor.get(provider.authorize(visitor.get("/ui/sign-in/oidc").location))

    assert back.location == "/ui/sign-in"
    assert visitor.get("/ui/customers").status_code == 303


@pytest.mark.parametrize(
    "claims", [{"aud": ["custsvc"]}, {"aud": ["custsvc", "b"], "azp": "custsvc"}], ids=str
)
@on_one("postgres")
def test_a_token_for_us_among_others_is_good(
    visitor: Visitor, provider: Provider, claims: dict[str, Any]
) -> None:
    provider.claims = claims

    assert (
        visitor.get(provider.authorize(visitor.get("/ui/sign-in/oidc").location)).location == "/ui/customers"
    )


@pytest.mark.parametrize(
    "role", [5, True, {"admin": 1}, [["admin"]], [None, 3], None, "god", ["god"], 1.5], ids=str
)
@on_one("postgres")
def test_an_unknown_role_counts_as_the_weakest(visitor: Visitor, provider: Provider, role: Any) -> None:
    provider.claims = {"custsvc_role": role}

    visitor.get(provider.authorize(visitor.get("/ui/sign-in/oidc").location))

    assert visitor.get("/ui/customers").status_code == 200
    assert visitor.get("/ui/customers/new").status_code == 403


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"email_verified": False}, "a-subject"),
        ({"email_verified": None}, "a-subject"),
        ({"email_verified": "yes", "preferred_username": "ann"}, "ann"),
        ({"email_verified": None, "preferred_username": "boss@example.org"}, "a-subject"),
        ({"email_verified": "true"}, "ann@example.org"),
        ({"email": 7}, "a-subject"),
        ({"email_verified": None, "preferred_username": {"a": 1}}, "a-subject"),
    ],
    ids=str,
)
@on_one("postgres")
def test_an_address_counts_only_where_the_provider_has_verified_it(
    visitor: Visitor, provider: Provider, store: Store, claims: dict[str, Any], name: str
) -> None:
    provider.claims = {"sub": "a-subject", **claims}

    visitor.get(provider.authorize(visitor.get("/ui/sign-in/oidc").location))

    (session,) = store.sessions.all()
    assert (session.subject, session.actor) == ("oidc:a-subject", name)


def test_a_slow_provider_delays_one_sign_in_and_nothing_else(
    visitor: Visitor, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()
    asked: list[float] = []

    def dawdle() -> Any:
        asked.append(time.monotonic())
        let_go.wait(60)
        return jsonify({})

    monkeypatch.setattr("custsvc.web.oidc._DEADLINE", 1.0)
    visitors = [Visitor(visitor.client.application) for _ in range(6)]
    backs = [provider.authorize(each.get("/ui/sign-in/oidc").location) for each in visitors]
    provider.app.view_functions["token"] = dawdle

    answers = [each.get(back) for each, back in zip(visitors, backs, strict=True)]

    assert {each.location for each in answers} == {"/ui/sign-in"}
    assert len(asked) == 1
    let_go.set()


def test_a_session_of_a_provider_can_be_ended(visitor: Visitor, provider: Provider, store: Store) -> None:
    provider.claims = {"sub": "a-subject"}
    visitor.get(provider.authorize(visitor.get("/ui/sign-in/oidc").location))
    assert visitor.get("/ui/customers").status_code == 200

    assert store.sessions.remove_of("oidc:a-subject") == 1

    assert visitor.get("/ui/customers").status_code == 303
