"""The state of the servers, shared between processes: one JSON file that only its owner can read.

It has passwords in URLs, hence the mode; it is replaced atomically, so that readers never see half of it.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from custsvc.errors import ConfigurationError

from . import private

Record = dict[str, Any]

# The servers of a set are started by one thread each.
_writing = threading.Lock()


def read_json(path: Path) -> Record:
    """The object in a file; an empty one if there is no file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except PermissionError as exc:
        raise ConfigurationError(
            f"{path} belongs to another user", fix="use --data-dir with your own folder"
        ) from exc
    except ValueError as exc:
        raise ConfigurationError(f"{path} cannot be read: {exc}", fix=f"rm {path}, and start again") from exc
    if not isinstance(value, dict):
        raise ConfigurationError(f"{path} does not hold an object", fix=f"rm {path}, and start again")
    return value


def write_json(path: Path, value: Record) -> None:
    """Replace a file by this object; only its owner can read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    private.write(path, json.dumps(value, indent=1))


class Known:
    """What a data folder knows about its servers, without checking that they run."""

    def __init__(self, content: Record) -> None:
        self._content = content

    @classmethod
    def of(cls, data_dir: Path) -> Known:
        """Read the state of the ephemeral servers if there are any, else of the lasting ones."""
        return cls(read_json(data_dir / "ephemeral.json") or read_json(data_dir / "servers.json"))

    @property
    def source(self) -> str | None:
        """The backend that is its system of record, once a role has claimed it."""
        return self._content.get("source")

    def url(self, name: str) -> str | None:
        """The address of a server at its last start."""
        url: str | None = self._content.get("servers", {}).get(name, {}).get("url")
        return url


class State:
    """The records of the servers, by name. The caller's lock excludes writers of other processes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, name: str) -> Record:
        """A server's record; an empty one if it was never started."""
        record: Record = read_json(self.path).get("servers", {}).get(name, {})
        return record

    def put(self, name: str, record: Record) -> None:
        """Replace a server's record."""
        with _writing:
            content = read_json(self.path)
            content["servers"] = {**content.get("servers", {}), name: record}
            write_json(self.path, content)

    def put_source(self, backend: str) -> None:
        """Note which backend is the system of record. The first call decides."""
        with _writing:
            content = read_json(self.path)
            write_json(self.path, {"source": backend, **content})
