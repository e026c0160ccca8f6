"""Sign-in through an OpenID Connect provider, if one is configured.

The authorization code flow with PKCE, state and nonce. These are kept in a signed cookie of the browser, so
that any process can finish a sign-in that another began. A token is accepted only if this provider signed it,
for this client and this sign-in.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Final, TypeVar, cast

from flask import Blueprint, Response, g, redirect, request
from itsdangerous import BadData, URLSafeTimedSerializer

from ..accounts.keys import NAME_MAX, ROLES, Principal
from ..config import Settings
from ..domain.customers import utc_now
from ..errors import CustsvcError
from ..ports.accounts import Role
from ..runtime.extras import needs
from . import toast
from .access import acts, anybody, route, services, web
from .browser import is_secure
from .signin import next_page, tried_too_often

logger = logging.getLogger(__name__)

T = TypeVar("T")

_COOKIE: Final = "custsvc_oidc"
_PATH: Final = "/ui/sign-in/oidc"
_WITHIN: Final = 600
_TIMEOUT: Final = 3.0
# Seconds for all requests to the provider in one step of a sign-in.
_DEADLINE: Final = 5.0
_METADATA_KEPT: Final = 3600.0
# Never `none`, and no HMAC, whose key would be the client's secret.
_ALGORITHMS: Final = ("RS256", "PS256", "ES256", "EdDSA", "RS384", "RS512", "ES384", "ES512")


class SignInRefused(CustsvcError):
    """The provider's answer is not trusted."""


def add_routes(blueprint: Blueprint) -> None:
    route(blueprint, _PATH, begin)
    route(blueprint, _PATH + "/callback", callback)


@acts
@anybody
def begin() -> Any:
    """Send the browser to the provider."""
    if not services().settings.oidc_issuer:
        return redirect("/ui/sign-in", 303)
    seal = {name: secrets.token_urlsafe(32) for name in ("state", "nonce", "verifier")}
    try:
        back = _callback_address()
        address = _provider().ask(lambda provider: provider.address(seal, back))
    except CustsvcError as exc:
        return _failed(exc)
    response = cast(Response, redirect(address, 303))
    response.set_cookie(
        _COOKIE,
        str(_serializer().dumps({**seal, "next": next_page()})),
        max_age=_WITHIN,
        secure=is_secure(),
        httponly=True,
        samesite="Lax",
        path=_PATH,
    )
    return response


@acts
@anybody
def callback() -> Any:
    """The browser is back with a code: ask the provider for the user."""
    try:
        seal = _seal()
        back, answer = _callback_address(), request.args.to_dict()
        _check_answer(seal, answer)
        claims = _provider().ask(lambda provider: provider.claims(seal, back, answer))
        subject = _subject(claims)
        principal = _principal(services().settings, claims)
    except CustsvcError as exc:
        return _failed(exc)
    web().browsers.sign_out(g.browser)
    g.browser = web().browsers.sign_in(f"oidc:{subject}", principal)
    response = cast(Response, redirect(seal["next"], 303))
    response.delete_cookie(_COOKIE, path=_PATH)
    return response


def _failed(exc: CustsvcError) -> Any:
    logger.warning("A sign-in by OpenID Connect failed: %s", exc, extra={"action": "oidc_failed"})
    toast.put("That sign-in did not work. Try again; the log has the reason.", kind="bad")
    return redirect("/ui/sign-in", 303)


def _serializer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(services().store.secret(), salt="custsvc.oidc")


def _seal() -> dict[str, str]:
    try:
        seal: dict[str, str] = _serializer().loads(request.cookies.get(_COOKIE, ""), max_age=_WITHIN)
    except BadData as exc:
        raise SignInRefused("the browser started no sign-in, or too long ago") from exc
    return seal


def _check_answer(seal: Mapping[str, str], answer: Mapping[str, str]) -> None:
    """Check that the answer belongs to this sign-in and was not used before. Raises SignInRefused."""
    state = answer.get("state", "").encode("utf-8", "replace")
    if not secrets.compare_digest(state, seal["state"].encode()):
        raise SignInRefused("the answer belongs to another sign-in")
    if tried_too_often(None):
        raise SignInRefused("too many sign-ins from this address; wait 15 minutes")
    # In the database, so that every process sees all uses.
    used = hashlib.sha256(state).hexdigest()
    if services().store.sessions.count_try(f"oidc:{used}", utc_now(), 2.0 * _WITHIN) > 1:
        raise SignInRefused("the answer was used before")


def _callback_address() -> str:
    base = services().settings.public_url or request.url_root
    return f"{base.rstrip('/')}{_PATH}/callback"


def _principal(settings: Settings, claims: Mapping[str, Any]) -> Principal:
    """The user that the claims name, with the highest role that they name, else the role of the settings."""
    found = claims.get(settings.oidc_role_claim)
    named: list[Any] = found if isinstance(found, list) else [found]
    roles = [role for role in ROLES if role in named]
    role: Role = roles[-1] if roles else settings.oidc_role
    return Principal(_name(claims), role)


def _name(claims: Mapping[str, Any]) -> str:
    """The user's name in `updated_by` and in events: never an address that the provider has not verified."""
    email, called = claims.get("email"), claims.get("preferred_username")
    is_verified = claims.get("email_verified") is True or claims.get("email_verified") == "true"
    found = email if is_verified else called
    name = found if isinstance(found, str) and (is_verified or "@" not in found) else str(claims["sub"])
    return "".join(char for char in name if char.isprintable())[:NAME_MAX].strip() or "somebody"


def _subject(claims: Mapping[str, Any]) -> str:
    """The user's id at the provider. Raises SignInRefused."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= 255 or not subject.isprintable():
        raise SignInRefused("the token names no user (sub)")
    return subject


class Provider:
    """One provider, as its discovery document describes it."""

    def __init__(self, settings: Settings) -> None:
        with needs("oidc"):
            import joserfc  # noqa: F401
            from authlib.integrations.requests_client import OAuth2Session
        self._new_session = OAuth2Session
        self._settings = settings
        self._lock = threading.Lock()
        # A request that waits for the provider occupies a lane, so only a quarter of them may.
        self._slots = threading.Semaphore(max(1, settings.threads // 4))
        self._known: tuple[float, dict[str, Any], Any] | None = None

    def ask(self, question: Callable[[Provider], T]) -> T:
        """Ask the provider, with a deadline of _DEADLINE seconds.

        Raises SignInRefused after that, and at once if too many requests wait for the provider already.
        """
        if not self._slots.acquire(blocking=False):
            raise SignInRefused("others wait for the provider, which is slow; try again in a moment")
        answer: Future[T] = Future()

        def work() -> None:
            try:
                answer.set_result(question(self))
            except Exception as exc:  # noqa: BLE001 - raised again by `answer.result`
                answer.set_exception(exc)
            finally:
                self._slots.release()

        # A thread, since a provider that sends a byte a second never exceeds the timeout of a read.
        threading.Thread(target=work, name="oidc", daemon=True).start()
        try:
            return answer.result(_DEADLINE)
        except TimeoutError as exc:
            raise SignInRefused(f"the provider did not answer within {_DEADLINE:g} s") from exc

    def address(self, seal: Mapping[str, str], callback_address: str) -> str:
        """The address to which the browser is sent to sign in."""
        address, _ = self._session(callback_address).create_authorization_url(
            self._metadata()[0]["authorization_endpoint"],
            state=seal["state"],
            nonce=seal["nonce"],
            code_verifier=seal["verifier"],
        )
        return str(address)

    def claims(
        self, seal: Mapping[str, str], callback_address: str, answer: Mapping[str, str]
    ) -> dict[str, Any]:
        """The provider's claims about the signed-in user. Raises SignInRefused."""
        from authlib.integrations.base_client import OAuthError
        from requests import RequestException

        if "error" in answer:
            raise SignInRefused(f"the provider refused: {answer['error'][:200]}")
        try:
            token = self._session(callback_address).fetch_token(
                self._metadata()[0]["token_endpoint"],
                code=answer.get("code", ""),
                code_verifier=seal["verifier"],
            )
        except (RequestException, OAuthError, ValueError) as exc:
            raise SignInRefused(f"the provider gave no token: {exc}") from exc
        if not isinstance(token, dict):
            raise SignInRefused("the provider's answer is not a token")
        return self._checked(str(token.get("id_token", "")), seal["nonce"])

    def _checked(self, id_token: str, nonce: str) -> dict[str, Any]:
        from joserfc import jwt
        from joserfc.errors import JoseError

        metadata, keys = self._metadata()
        wanted = jwt.JWTClaimsRegistry(
            leeway=60,
            iss={"essential": True, "value": metadata["issuer"]},
            aud={"essential": True, "value": self._settings.oidc_client_id},
            nonce={"essential": True, "value": nonce},
            sub={"essential": True},
            exp={"essential": True},
        )
        try:
            token = jwt.decode(id_token, keys, algorithms=list(_ALGORITHMS))
            wanted.validate(token.claims)
            self._check_party(token.claims)
        except (JoseError, ValueError, TypeError) as exc:
            self._known = None  # the provider may have new keys
            raise SignInRefused(f"the token is not valid: {exc}") from exc
        return dict(token.claims)

    def _check_party(self, claims: Mapping[str, Any]) -> None:
        """A token with several audiences or an `azp` must have our client id as `azp`. Raises ValueError."""
        audience, ours = claims.get("aud"), self._settings.oidc_client_id
        is_shared = isinstance(audience, list) and len(audience) > 1
        if ("azp" in claims or is_shared) and claims.get("azp") != ours:
            raise ValueError("it was issued to another client (azp)")

    def _session(self, callback_address: str) -> Any:
        settings = self._settings
        return self._new_session(
            settings.oidc_client_id,
            settings.oidc_client_secret or None,
            scope="openid email profile",
            redirect_uri=callback_address,
            code_challenge_method="S256",
            default_timeout=_TIMEOUT,
        )

    def _metadata(self) -> tuple[dict[str, Any], Any]:
        """The discovery document and the keys, read at most once an hour."""
        import requests
        from joserfc.jwk import KeySet

        with self._lock:
            if self._known is None or time.monotonic() - self._known[0] > _METADATA_KEPT:
                issuer = self._settings.oidc_issuer.rstrip("/")
                try:
                    metadata = _json(f"{issuer}/.well-known/openid-configuration")
                    keys = KeySet.import_key_set(_json(metadata["jwks_uri"]))
                    _check_endpoints(metadata)
                except (requests.RequestException, KeyError, ValueError, TypeError) as exc:
                    raise SignInRefused(f"{issuer} does not answer like a provider: {exc}") from exc
                if str(metadata.get("issuer", "")).rstrip("/") != issuer:
                    raise SignInRefused(f"{issuer} says that it is {metadata.get('issuer')}")
                self._known = (time.monotonic(), metadata, keys)
            return self._known[1], self._known[2]


def _check_endpoints(metadata: Mapping[str, Any]) -> None:
    for name in ("authorization_endpoint", "token_endpoint"):
        if not isinstance(metadata[name], str):
            raise TypeError(f"{name} is not text")


def _json(address: str) -> Any:
    import requests

    response = requests.get(address, timeout=_TIMEOUT)
    response.raise_for_status()
    return response.json()


def _provider() -> Provider:
    place = web()
    if place.provider is None:
        place.provider = Provider(place.services.settings)
    return cast(Provider, place.provider)
