"""The port of the shelf: what pages and imports keep in the database for a while, by name."""

from __future__ import annotations

from typing import Final, Protocol


class Shelved:
    """The names on the shelf. Each begins a name: an id, a kind or a number follows."""

    UPLOAD: Final = "upload."
    UPLOAD_PART: Final = "part."
    JOB: Final = "job."
    LAST_JOB: Final = "last."
    JOB_ONCE: Final = "once."
    IMPORTED: Final = "import.done."
    IMPORTED_PART: Final = "import.part."


class Shelf(Protocol):
    """Bytes by name, each until its time is over: then they are gone for every method."""

    def get(self, name: str) -> bytes | None:
        """The bytes under this name, or None."""

    def keep(self, name: str, value: bytes, seconds: float) -> bytes:
        """The bytes under this name; if there are none, `value` for `seconds`: the first caller decides."""

    def put(self, name: str, value: bytes, seconds: float) -> None:
        """Store bytes, at most 1 MiB, for `seconds` from now. Durable when it returns."""

    def drop(self, name: str) -> None:
        """Delete the bytes under this name."""

    def drop_all(self, prefix: str) -> int:
        """Delete all whose name has this prefix; return how many."""

    def all(self, prefix: str) -> dict[str, bytes]:
        """All whose name has this prefix, by name."""

    def names(self, prefix: str) -> list[str]:
        """The names that have this prefix, without reading their bytes."""

    def expire(self) -> int:
        """Delete those whose time is over; return how many."""
