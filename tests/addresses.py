"""A server's address, through another host and port, or with one part changed."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit


def through(address: str, port: int, **more: str) -> str:
    """The address of the same server, user and password included, by way of a port of this machine.

    `more` are parameters of a database's address. A replica set would lead around the port, so its name goes.
    """
    if "://" not in address:  # Kafka's
        login, at, _ = address.rpartition("@")
        return f"{login}{at}127.0.0.1:{port}"
    parts = urlsplit(address)
    login, at, _ = parts.netloc.rpartition("@")
    parameters = dict(parse_qsl(parts.query))
    if parts.scheme == "mongodb":
        parameters = {name: value for name, value in parameters.items() if name != "replicaSet"}
        parameters["directConnection"] = "true"
    query = urlencode(parameters | more, quote_via=quote)
    return urlunsplit(parts._replace(netloc=f"{login}{at}127.0.0.1:{port}", query=query))


def changed(url: str, changes: dict[str, str | None]) -> str:
    """An address with other parameters; None takes one away. `login`, `host` and `database` are its parts."""
    parts = urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    login = changes.get("login", login) or ""
    if changes.get("host"):
        host = f"{changes['host']}:{parts.port}"
    path = f"/{changes['database']}" if changes.get("database") else parts.path
    query: dict[str, str | None] = dict(parse_qsl(parts.query))
    query |= {name: value for name, value in changes.items() if name not in ("login", "host", "database")}
    kept = urlencode({name: value for name, value in query.items() if value is not None}, safe="/")
    return urlunsplit(parts._replace(netloc=f"{login}@{host}" if login else host, path=path, query=kept))
