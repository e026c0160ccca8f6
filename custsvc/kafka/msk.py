"""Signs in to Amazon MSK by IAM: a token is a signed request, made anew before the last one expires.

All clients of a process share a token. The first is made before the client, since librdkafka asks for one by
a callback, waits, and drops what the callback raises.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaError

from ..config import Settings
from ..runtime.extras import needs
from .errors import failure, note
from .reasons import NO_TOKEN

# librdkafka asks for a new token after 80 % of its time; until this part of it has passed, clients share it.
_SHARED: Final = 0.5


class _Token(NamedTuple):
    """A token, when it was made, and when it expires, as Unix times."""

    text: str
    made: float
    expires: float


_tokens: dict[str, _Token] = {}


def sign_in(settings: Settings, servers: str) -> dict[str, Any]:
    """The properties of a client that signs in by IAM; empty without a region.

    Raises NotInstalled without the extra `msk`; without a token ConfigurationError, or TemporaryError if AWS
    is away.
    """
    region = settings.kafka_aws_region
    if not region:
        return {}
    with needs("msk"):
        import aws_msk_iam_sasl_signer  # noqa: F401 - so that it is missing here, and not in a thread
    try:
        _current(region)
    except Exception as exc:
        raise failure(_error(exc), servers) from exc
    return {"oauth_cb": partial(_asked, region, servers)}


def _asked(region: str, servers: str, _config: str) -> tuple[str, float]:
    """librdkafka's callback: a token, and when it expires."""
    try:
        token = _current(region)
    except Exception as exc:
        note(servers, _error(exc))
        raise
    return token.text, token.expires


def _current(region: str) -> _Token:
    now, token = time.time(), _tokens.get(region)
    if token is None or now > token.made + _SHARED * (token.expires - token.made):
        text, expires = make(region)
        token = _tokens[region] = _Token(text, now, expires)
    return token


def _error(exc: Exception) -> KafkaError:
    # AWS' libraries raise many kinds, some of them for a missing file or a wrong region.
    return KafkaError(KafkaError._AUTHENTICATION, f"{NO_TOKEN}{exc}")


def make(region: str) -> tuple[str, float]:
    """A token for a cluster in this region, by AWS' own credentials, and when it expires, as Unix time.

    Raises what AWS' library does.
    """
    with needs("msk"):
        from aws_msk_iam_sasl_signer.MSKAuthTokenProvider import generate_auth_token
        from botocore.exceptions import NoCredentialsError
    try:
        text, expires_ms = generate_auth_token(region)
    except AttributeError as exc:  # it looks into credentials that are not there
        raise NoCredentialsError from exc
    return text, expires_ms / 1000
