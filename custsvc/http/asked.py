"""The question whether a request's body may be read, put to the app before anything of it is read."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

# Set in the environ of a request whose body is yet to be read.
ASK: Final = "custsvc.ask"


class Admitted(NamedTuple):
    """Who sends a body, and how long it may be. `stranger`: nobody signed in for it."""

    caller: str
    limit: int
    stranger: bool = False


class Asked:
    """The question, and the app's answer: `admitted` stays None where it refuses."""

    __slots__ = ("admitted", "allowance")

    def __init__(self) -> None:
        self.admitted: Admitted | None = None
        self.allowance: Any = None
