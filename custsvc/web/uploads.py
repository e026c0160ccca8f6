"""Files uploaded for import, stored in the database for a day, so that any process can continue."""

from __future__ import annotations

import base64
import secrets
import time
from dataclasses import asdict, dataclass
from typing import Any, Final

import orjson

from ..ports.facts import Fact, Facts
from ..transfer.shape import Format, Shape

# A fact is a short text, so a file is stored as several.
_PART: Final = 512 * 1024
_KEPT: Final = 86400.0


@dataclass(frozen=True, slots=True)
class Upload:
    """An uploaded file."""

    id: str
    name: str
    fmt: Format
    size: int
    parts: int
    at: float
    encoding: str = "utf-8"
    delimiter: str | None = None
    sheet: str | None = None

    @property
    def shape(self) -> Shape:
        """How the file is read."""
        return Shape(self.fmt, self.encoding, self.delimiter, self.sheet)


class Uploads:
    """The files of this installation, by id."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def keep(self, name: str, shape: Shape, content: bytes) -> Upload:
        """Store a file."""
        upload_id = secrets.token_hex(12)
        parts = [content[start : start + _PART] for start in range(0, len(content), _PART)]
        how = (shape.encoding, shape.delimiter, shape.sheet)
        upload = Upload(upload_id, name, shape.fmt, len(content), len(parts), time.time(), *how)
        # First, so that `purge` finds the parts even if this process dies while it stores them.
        self._facts.put(f"{Fact.UPLOAD}{upload_id}", orjson.dumps(asdict(upload)).decode())
        for number, part in enumerate(parts):
            self._facts.put(f"{Fact.UPLOAD_PART}{upload_id}.{number}", base64.b64encode(part).decode())
        return upload

    def reshape(self, upload: Upload, shape: Shape) -> None:
        """Read the file in another way from now on."""
        how = {"encoding": shape.encoding, "delimiter": shape.delimiter, "sheet": shape.sheet}
        self._facts.put(f"{Fact.UPLOAD}{upload.id}", orjson.dumps({**asdict(upload), **how}).decode())

    def find(self, upload_id: str) -> Upload | None:
        text = self._facts.get(f"{Fact.UPLOAD}{upload_id}") if upload_id.isalnum() else None
        return Upload(**orjson.loads(text)) if text else None

    def content(self, upload: Upload) -> bytes:
        """The content of the file."""
        names = (f"{Fact.UPLOAD_PART}{upload.id}.{number}" for number in range(upload.parts))
        return b"".join(base64.b64decode(self._facts.get(name) or "") for name in names)

    def purge(self) -> None:
        """Delete files older than a day."""
        for name, text in self._facts.all(Fact.UPLOAD).items():
            upload: dict[str, Any] = orjson.loads(text)
            if time.time() - upload["at"] > _KEPT:
                self._facts.drop_all(f"{Fact.UPLOAD_PART}{upload['id']}.")
                self._facts.drop(name)
