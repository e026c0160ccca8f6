"""An answer as the API's handlers give it, of no framework."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

# Answers of these have no body, and none of the headers that tell of one.
_BODILESS: Final = (204, 304)


class Answer:
    """A status, headers in their order, and the body: bytes, or an iterator of its parts."""

    __slots__ = ("body", "headers", "status")

    def __init__(
        self,
        body: bytes | Iterator[bytes],
        status: int,
        headers: Sequence[tuple[str, str]],
        media_type: str | None = None,
    ) -> None:
        self.body = body
        self.status = status
        self.headers = list(headers)
        if media_type is not None:
            self.headers.append(("Content-Type", media_type))
        if isinstance(body, bytes) and status not in _BODILESS:
            self.headers.append(("Content-Length", str(len(body))))

    @classmethod
    def of(cls, body: bytes | Iterator[bytes], status: int, headers: Sequence[tuple[str, str]]) -> Answer:
        """An answer with these headers and no others."""
        answer = cls.__new__(cls)
        answer.body, answer.status, answer.headers = body, status, list(headers)
        return answer

    def header(self, name: str) -> str | None:
        """The first value of a header, None where there is none."""
        return next((value for known, value in self.headers if known == name), None)

    def put(self, name: str, value: str) -> None:
        """Set a header, in the place of one that is there."""
        for place, (known, _) in enumerate(self.headers):
            if known == name:
                self.headers[place] = (name, value)
                return
        self.headers.append((name, value))
