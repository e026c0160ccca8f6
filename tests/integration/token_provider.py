"""An OpenID Connect provider for programs: gives tokens for a client's id and secret, over HTTP."""

from __future__ import annotations

import base64
import json
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote_plus

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "service", "open-sesame"


class TokenProvider:
    """Listens on loopback.

    `seconds` is how long a token lasts, `asked` every request for one. A scope can ask for a token of another
    audience, as `audience:other`, or for an answer with this status, as `answer:503`.
    """

    def __init__(self) -> None:
        self._key = RSAKey.generate_key(2048, {"kid": "k1"})
        self.seconds = 300
        self.asked: list[dict[str, str]] = []
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(200, {"keys": [provider._key.as_dict(private=False, use="sig", alg="RS256")]})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                self._answer(*provider.token(self.path, self.headers.get("Authorization", ""), body))

            def _answer(self, status: int, what: str | dict[str, Any]) -> None:
                text = (what if isinstance(what, str) else json.dumps(what)).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self._server.server_port}"
        self.token_url, self.keys_url = f"{self.issuer}/token", f"{self.issuer}/keys"

    def token(self, path: str, authorization: str, body: str) -> tuple[int, str | dict[str, Any]]:
        """The status and the answer to a request for a token."""
        form = {name: values[0] for name, values in parse_qs(body).items()}
        self.asked.append(form)
        scope = form.get("scope", "")
        if scope.startswith("answer:"):
            return int(scope.removeprefix("answer:")), "<html>busy</html>"
        if path != "/token":
            return 404, {"error": "not_found", "error_description": "there is nothing here"}
        given = base64.b64decode(authorization.removeprefix("Basic ")).decode()
        if tuple(unquote_plus(each) for each in given.partition(":")[::2]) != (CLIENT, SECRET):
            return 401, {"error": "invalid_client", "error_description": "unknown client or wrong secret"}
        if form.get("grant_type") != "client_credentials":
            return 400, {"error": "unsupported_grant_type"}
        audience = scope.removeprefix("audience:") if scope.startswith("audience:") else "kafka"
        token = self.signed(CLIENT, scope or "all", self.seconds, audience)
        return 200, {"access_token": token, "token_type": "Bearer", "expires_in": self.seconds}

    def signed(self, name: str, scope: str, seconds: int, audience: str = "kafka") -> str:
        """A token for somebody that lasts so many seconds."""
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": audience, "sub": name, "iat": now, "exp": now + seconds}
        claims |= {"jti": uuid.uuid4().hex, "scope": scope}
        return jwt.encode({"alg": "RS256", "kid": "k1"}, claims, self._key)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
