"""The question to the app whether a request's body may be read, asked before any of it is read."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

# Set in the environ of a request whose body is yet to be read.
ASK: Final = "custsvc.ask"


class Admitted(NamedTuple):
    """The sender of a body, and its longest length. `stranger`: the sender is not authenticated."""

    caller: str
    limit: int
    stranger: bool = False


class Asked:
    """The question, and the app's answer: `admitted` stays None if it refuses."""

    __slots__ = ("admitted", "allowance")

    def __init__(self) -> None:
        self.admitted: Admitted | None = None
        self.allowance: Any = None
