"""An answer of the API's handlers, independent of any framework."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

# Answers with these statuses have no body, and no headers about one.
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
        """The first value of a header, or None."""
        return next((value for known, value in self.headers if known == name), None)

    def put(self, name: str, value: str) -> None:
        """Set a header, replacing an existing one."""
        for place, (known, _) in enumerate(self.headers):
            if known == name:
                self.headers[place] = (name, value)
                return
        self.headers.append((name, value))
