"""The house keeps its plan: who may import whom, drivers in their rooms, and no circle.

`docs/architecture.md` says the same in words. Prints the count of rooms and arrows with `pytest -s`.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = "custsvc"

# Each room with the rooms that it may import from. A room is a folder; those that stand alone are files.
# To add an arrow, add it here, and say in docs/architecture.md why.
MAY_IMPORT: Final[dict[str, str]] = {
    "errors": "redact",
    "config": "redact errors",
    "domain": "errors",
    "ports": "errors domain",
    "runtime": "redact errors config",
    "stores.common": "errors domain ports",
    "stores.postgres": "errors domain ports runtime stores.common",
    "stores.mongo": "errors domain ports runtime stores.common",
    "stores": "errors config ports runtime stores.postgres stores.mongo",
    "service": "errors domain ports runtime",
    "accounts": "errors domain ports",
    "transfer": "errors domain ports runtime service",
    "kafka": "errors config domain runtime",
    "relay": "errors config domain ports runtime service kafka",
    "retention": "errors config domain ports runtime service relay",
    "copies": "errors config domain ports runtime service kafka relay",
    "notify.rules": "redact errors config domain",
    "notify.channels": "errors config domain ports runtime",
    "notify.intake": "errors config domain ports runtime service kafka notify.rules notify.channels",
    "notify.sending": "errors domain ports runtime notify.channels",
    "notify.endpoints": (
        "redact errors config domain ports runtime notify.rules notify.channels notify.intake notify.sending"
    ),
    "notify": (
        "errors config domain ports runtime stores kafka notify.rules notify.channels notify.intake "
        "notify.sending notify.endpoints"
    ),
    "http": "errors config domain ports runtime service accounts kafka",
    "api": (
        "errors config domain ports service transfer copies notify.rules notify.channels "
        "notify.endpoints notify http"
    ),
    "local": "redact errors config runtime",
    "web": (
        "errors config domain ports runtime stores service accounts transfer kafka copies notify.rules "
        "notify.channels notify.endpoints notify http local"
    ),
    "serve": "errors config domain ports runtime stores service accounts http api web",
    "doctor": "errors config ports runtime stores kafka relay notify.rules notify.channels",
    "dashboards": "errors",
    "client": "errors",
    "mcp": "errors runtime client",
    "bench": ("errors config domain ports stores.postgres stores.mongo stores service transfer kafka local"),
    "cli": (
        "redact errors config domain ports runtime stores service accounts transfer kafka relay retention "
        "copies notify.rules notify.channels notify.endpoints notify api local serve "
        "dashboards doctor client mcp bench"
    ),
    "__main__": "cli",
}
# Folders that are rooms of their own within a room.
INNER: Final = (
    *("stores.postgres", "stores.mongo", "stores.common"),
    *("notify.intake", "notify.rules", "notify.channels", "notify.sending", "notify.endpoints"),
)

# A driver or framework, and the rooms that may know it.
DRIVERS: Final = {
    "psycopg2": "stores.postgres local bench",
    "pymongo": "stores.mongo local bench",
    "bson": "stores.mongo bench",
    "confluent_kafka": "kafka local",
    "flask": "http api web serve",
    "flask_restful": "serve",
    "werkzeug": "http api web serve",
    "granian": "serve",
    "prometheus_client": "runtime serve",
    "typer": "cli",
    "rich": "cli",
    "httpx": "client",
    "mcp": "mcp",
    "smtplib": "notify.channels",
    "apprise": "notify.channels",
    "urllib3": "notify.channels",
    "joserfc": "web",
    "psutil": "local",
    "opentelemetry": "runtime",
}
# The rooms that read the environment: the settings, and those that start processes.
ENVIRONMENT: Final = "config runtime cli local bench serve"


class Import(NamedTuple):
    """One import statement: in which module, of what, at which line."""

    module: str
    target: str
    line: int


def modules(root: Path) -> dict[str, Path]:
    """Each module of the package by its dotted name below it; a package by its own."""
    found = {}
    for path in (root / PACKAGE).rglob("*.py"):
        parts = path.relative_to(root / PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = path
    return found


@functools.cache
def parts_of(text: str) -> tuple[ast.Import | ast.ImportFrom | ast.Attribute, ...]:
    """What is looked at here of a module with this text. To parse all modules takes a second."""
    kinds = (ast.Import, ast.ImportFrom, ast.Attribute)
    return tuple(node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds))


def imports(name: str, path: Path, known: Mapping[str, Path]) -> Iterator[Import]:
    """All imports of a module, those in functions and for types too."""
    here = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in parts_of(path.read_text(encoding="utf-8")):
        if isinstance(node, ast.Import):
            yield from (Import(name, each.name, node.lineno) for each in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield Import(name, node.module or "", node.lineno)
            if node.module == PACKAGE:
                yield from (Import(name, f"{PACKAGE}.{each.name}", node.lineno) for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - (node.level - 1)] + (node.module or "").split(".")
            source = ".".join(part for part in base if part)
            for each in node.names:
                inner = f"{source}.{each.name}" if source else each.name
                target = f"{PACKAGE}.{inner if inner in known else source}".rstrip(".")
                yield Import(name, target, node.lineno)


def room_of(module: str) -> str:
    for inner in INNER:
        if module == inner or module.startswith(f"{inner}."):
            return inner
    return module.partition(".")[0]


def all_imports(root: Path) -> list[Import]:
    known = modules(root)
    return [each for name, path in known.items() for each in imports(name, path, known)]


def arrows(found: list[Import]) -> dict[tuple[str, str], Import]:
    """From room to room, each with one import that draws it. The package's own face, its version, is none."""
    drawn = {}
    for each in found:
        target = each.target.removeprefix(f"{PACKAGE}.")
        if each.target.startswith(f"{PACKAGE}.") and room_of(target) != room_of(each.module):
            drawn[room_of(each.module), room_of(target)] = each
    return drawn


def wrong(root: Path) -> list[str]:
    """The breaches of the plan, a sentence each."""
    found = all_imports(root)
    told = [
        f"{each.module}:{each.line} imports {each.target}, but {a} may not import from {b}"
        for (a, b), each in arrows(found).items()
        if b not in MAY_IMPORT.get(a, "").split()
    ]
    for each in found:
        rooms = DRIVERS.get(each.target.partition(".")[0])
        if rooms is not None and room_of(each.module) not in rooms.split():
            told.append(f"{each.module}:{each.line} imports {each.target}, which only {rooms} may")
    return told + [f"a circle of rooms: {' → '.join(circle)}" for circle in circles(arrows(found))]


def circles(drawn: Mapping[tuple[str, str], Import]) -> list[list[str]]:
    """The shortest way back to each room that has one."""
    after: dict[str, list[str]] = {}
    for a, b in drawn:
        after.setdefault(a, []).append(b)
    found = []
    for start in after:
        ways, seen = [[start]], {start}
        for way in ways:
            for following in after.get(way[-1], ()):
                if following == start:
                    found.append([*way, start])
                    break
                if following not in seen:
                    seen.add(following)
                    ways.append([*way, following])
            else:
                continue
            break
    return found


def test_every_room_imports_only_what_the_plan_says() -> None:
    drawn = arrows(all_imports(ROOT))
    print(f"{len({room for arrow in drawn for room in arrow})} rooms, {len(drawn)} arrows")

    assert wrong(ROOT) == []


def test_the_plan_names_no_room_or_arrow_that_is_gone() -> None:
    drawn = arrows(all_imports(ROOT))
    planned = {(a, b) for a, rooms in MAY_IMPORT.items() for b in rooms.split()}

    assert planned - drawn.keys() == set()


def test_the_handlers_of_the_api_know_no_framework() -> None:
    users = {
        name
        for name, path in modules(ROOT).items()
        if room_of(name) in ("http", "api")
        for node in parts_of(path.read_text(encoding="utf-8"))
        if (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("flask"))
        or (isinstance(node, ast.Import) and any(each.name.startswith("flask") for each in node.names))
    }

    assert users == {"http.framework", "api.unsubscribe"}


def test_the_environment_is_read_by_the_settings_and_handed_on_by_those_who_start_processes() -> None:
    readers = {
        room_of(name)
        for name, path in modules(ROOT).items()
        for node in parts_of(path.read_text(encoding="utf-8"))
        if isinstance(node, ast.Attribute)
        and node.attr in ("environ", "getenv", "putenv")
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    }

    assert readers <= set(ENVIRONMENT.split())


@pytest.mark.parametrize(
    ("room", "statement", "words"),
    [
        ("domain/customers.py", "from ..stores.postgres import PostgresStore", "may not import from stores"),
        ("relay/relay.py", "from ..web import app", "relay may not import from web"),
        ("service/batch.py", "import psycopg2", "psycopg2"),
        ("ports/store.py", "def late():\n    from ..cli import output", "ports may not import from cli"),
        ("api/batch.py", "from ..serve import app", "a circle of rooms"),
    ],
)
def test_a_wrong_import_is_found(tmp_path: Path, room: str, statement: str, words: str) -> None:
    for name, path in modules(ROOT).items():
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
        assert name
    planted = tmp_path / PACKAGE / room
    planted.write_text(f"{planted.read_text(encoding='utf-8')}\n{statement}\n", encoding="utf-8")

    assert any(words in each for each in wrong(tmp_path)), wrong(tmp_path)
