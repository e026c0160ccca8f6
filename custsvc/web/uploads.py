"""Files uploaded for import, on the shelf for a day, so that any process can continue."""

from __future__ import annotations

import secrets
import time
from dataclasses import asdict, dataclass
from typing import Final

import orjson

from ..errors import NotFound
from ..ports.shelf import Shelf, Shelved
from ..transfer.shape import Format, Shape

# A file is stored in parts: the most bytes of one.
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

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def keep(self, name: str, shape: Shape, content: bytes) -> Upload:
        """Store a file."""
        upload_id = secrets.token_hex(12)
        parts = [content[start : start + _PART] for start in range(0, len(content), _PART)]
        how = (shape.encoding, shape.delimiter, shape.sheet)
        upload = Upload(upload_id, name, shape.fmt, len(content), len(parts), time.time(), *how)
        for number, part in enumerate(parts):
            self._shelf.put(f"{Shelved.UPLOAD_PART}{upload_id}.{number}", part, _KEPT)
        self._shelf.put(f"{Shelved.UPLOAD}{upload_id}", orjson.dumps(asdict(upload)), _KEPT)
        return upload

    def reshape(self, upload: Upload, shape: Shape) -> None:
        """Read the file in another way from now on."""
        how = {"encoding": shape.encoding, "delimiter": shape.delimiter, "sheet": shape.sheet}
        left = upload.at + _KEPT - time.time()
        self._shelf.put(f"{Shelved.UPLOAD}{upload.id}", orjson.dumps({**asdict(upload), **how}), left)

    def find(self, upload_id: str) -> Upload | None:
        text = self._shelf.get(f"{Shelved.UPLOAD}{upload_id}") if upload_id.isalnum() else None
        return Upload(**orjson.loads(text)) if text else None

    def content(self, upload: Upload) -> bytes:
        """The content of the file. Raises NotFound if not all of it is there any more."""
        names = (f"{Shelved.UPLOAD_PART}{upload.id}.{number}" for number in range(upload.parts))
        content = b"".join(self._shelf.get(name) or b"" for name in names)
        if len(content) != upload.size:
            raise NotFound(
                "the file is gone: a customer was erased since, or its day is over", fix="upload it again"
            )
        return content
