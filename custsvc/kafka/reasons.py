"""What librdkafka and OpenSSL say about a refusal: in plain words, and with its repair."""

from __future__ import annotations

import re
from typing import Final

_OPTION: Final = "CUSTSVC_KAFKA_OPTIONS__"
NO_TOKEN: Final = "Failed to acquire SASL OAUTHBEARER token: "  # noqa: S105 - no token

# A provider of tokens that is away, and not one that refuses us: curl's words, and answers of HTTP.
_AWAY: Final = re.compile(
    r"Could not resolve|Could not connect|Failed to connect|Connection refused|timed out|Timeout was reached"
    r"|connection reset|Empty reply|Failure when receiving|Send failure|temporarily"
    r"|\b(?:429|50[0234])\b|server_error",
    re.IGNORECASE,
)
# What a broker sends when it does not accept our certificate, or TLS as we speak it.
_ALERT: Final = re.compile(
    r"alert (certificate required|bad certificate|unsupported certificate|certificate revoked"
    r"|certificate expired|certificate unknown|unknown ca|access denied|handshake failure|protocol version)"
)
_ALERTS: Final = {
    "certificate required": "it wants a certificate of ours",
    "unknown ca": "it does not know the authority of our certificate",
    "certificate expired": "our certificate has expired",
    "certificate revoked": "our certificate is revoked",
}
_OURS: Final = (
    f"set {_OPTION}SSL_CERTIFICATE_LOCATION and {_OPTION}SSL_KEY_LOCATION, by an authority of the brokers"
)
PROVIDER: Final = f"start the provider of tokens, or correct {_OPTION}SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL"
_ACLS: Final = "custsvc topics acls prints what each role needs"

# What repairs a refusal, by words of its reason; the first that fits.
_FIXES: Final = tuple(
    (re.compile(words, re.IGNORECASE), fix)
    for words, fix in (
        (r"certificate has expired", "renew the certificate of the brokers"),
        (
            r"mismatch, certificate is not valid for",
            "name the brokers in CUSTSVC_KAFKA, and in their advertised.listeners, as their certificates do",
        ),
        (
            r"certificate verify failed|issuer certificate|self.signed",
            f"set {_OPTION}SSL_CA_LOCATION to the file of the brokers' authority",
        ),
        (_ALERT.pattern, _OURS),
        (r"not valid in current SASL state", f"set {_OPTION}SECURITY_PROTOCOL to PLAINTEXT or SSL"),
        (r"speaks TLS", f"set {_OPTION}SECURITY_PROTOCOL to SSL or SASL_SSL"),
        (r"speaks clear text", f"set {_OPTION}SECURITY_PROTOCOL to PLAINTEXT or SASL_PLAINTEXT"),
        (
            r"asks for a sign-in",
            "give user and password in CUSTSVC_KAFKA, or a client's certificate: docs/kafka.md",
        ),
        (
            r"supported mechanisms|unsupported sasl",
            f"set {_OPTION}SASL_MECHANISM to one that the brokers have",
        ),
        (
            r"unable to locate credentials|credentials can not be empty|partial credentials",
            "give the process AWS credentials: a role of its machine or pod, "
            "or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ),
        (
            re.escape(NO_TOKEN),
            f"correct {_OPTION}SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL, …_CLIENT_ID, …_CLIENT_SECRET and …_SCOPE",
        ),
        (
            r"invalid_token|invalid_scope|insufficient_scope",
            "have the provider give tokens with the audience and scope that the brokers want",
        ),
        (
            r"invalid credentials|invalid username|authentication failed",
            f"correct user and password: CUSTSVC_KAFKA, or {_OPTION}SASL_USERNAME and …SASL_PASSWORD",
        ),
        (r"authorization failed|not authorized", _ACLS),
    )
)
_ANY: Final = "correct CUSTSVC_KAFKA and CUSTSVC_KAFKA_OPTIONS__*"


def is_alert(reason: str) -> bool:
    """Whether a broker refuses our certificate: librdkafka reports that as a lost connection."""
    return _ALERT.search(reason) is not None


def is_outage(reason: str) -> bool:
    """Whether the provider of tokens is away, which passes."""
    return NO_TOKEN in reason and _AWAY.search(reason.partition(NO_TOKEN)[2]) is not None


def is_unverified(reason: str) -> bool:
    """Whether a broker's certificate could not be verified, which librdkafka says without the reason."""
    return "certificate verify failed" in reason


def plain(reason: str) -> str:
    """The reason without the broker's name at its beginning and the state machine's state at its end."""
    reason = re.sub(r"^\S+/(bootstrap|\d+): ", "", reason.strip())
    if found := _ALERT.search(reason):
        reason = _ALERTS.get(found[1], f"it answers our certificate with: {found[1]}")
    return re.sub(r" \(after \d+ms in state \w+\)", "", reason)


def fix(reason: str) -> str:
    """What repairs it."""
    return next((fix for words, fix in _FIXES if words.search(reason)), _ANY)
