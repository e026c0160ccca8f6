"""Writes the reference pages and published schemas from the code; `--check` only reports outdated ones.

It refuses to write a schema that would break readers of events by the previous one: see `breaks`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import orjson
import typer.main
from compatible import breaks

from custsvc.api.describe.events import asyncapi, event_schema, registry_schema
from custsvc.cli import app
from custsvc.config import SETTINGS, Settings, env_name
from custsvc.domain.event_avro import schema as avro_schema
from custsvc.kafka import acls
from custsvc.ports import rights
from custsvc.stores.mongo import rights as mongo
from custsvc.stores.postgres import rights as postgres

HERE = Path(__file__).parent
NOTE = "<!-- Made by docs/generate.py; change the code instead. -->\n\n"


def cli() -> str:
    """Every command's help, on one page."""
    root = typer.main.get_command(app)
    parts = [f"{NOTE}# Commands\n\nWhat `--help` says, on one page.\n"]
    for words, command in _commands(root, ["custsvc"]):
        context = command.context_class(command, info_name=" ".join(words), terminal_width=96)
        text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
        parts.append(f"## {' '.join(words)}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def _commands(command: Any, words: list[str]) -> list[tuple[list[str], Any]]:
    found = [(words, command)]
    for name, inner in getattr(command, "commands", {}).items():
        found += _commands(inner, [*words, name])
    return found


def settings() -> str:
    """Every setting, with its variable, its default and what it is."""
    lines = [
        f"{NOTE}# Settings\n",
        "A value is taken from the command's flag, else the environment, else `.env`, else `custsvc.toml`",
        "(its name there in small letters and without the prefix), else the default. Each variable can",
        "also be given as `NAME_FILE`, the path of a file that holds the value. An unknown `CUSTSVC_` name",
        "is an error.\n",
        "| Variable | Default | What it is |",
        "|---|---|---|",
    ]
    for name, setting in SETTINGS.items():
        default = "" if setting.secret or setting.default in ("", None) else f"`{setting.default}`"
        variable = f"{env_name(name)}__…" if isinstance(setting.default, dict) else env_name(name)
        lines.append(f"| `{variable}` | {default} | {setting.doc} |")
    lines += [
        "\nBesides: `CUSTSVC_LOCAL=never` never starts embedded servers; `CUSTSVC_CONFIG` names another file",
        "than `custsvc.toml`; `CUSTSVC_CACHE_DIR` is where Kafka's jars are remembered, with an archive of",
        "their classes (65 MB), by which Java starts Kafka sooner. `serve` puts its",
        "temporary files into `TMPDIR`, else into `/tmp`, `/var/tmp` or `/dev/shm`. The original",
        "services' names `MICROSERVICES_KafkaService__Servers`, `MICROSERVICES_KafkaService__Topic` and",
        "`MICROSERVICES_MongoDB__Url` are read where ours are not set, with a warning.\n",
    ]
    return "\n".join(lines)


def permissions() -> str:
    """The page about permissions, with the commands that its headings name put below them."""
    page = (HERE / "permissions.md").read_text(encoding="utf-8")
    return re.sub(r"(### (.+) on (\w+)\n```\w+\n)[^`]*(```)", _commands_that_allow, page)


def _commands_that_allow(block: re.Match[str]) -> str:
    if block[3] == "Kafka":
        (kafka_role,) = [role for role in acls.ROLES if role == block[2]]
        lines = acls.commands(Settings(), kafka_role, f"User:custsvc_{kafka_role.replace(' ', '_')}")
        return block[1] + "\n".join(lines) + "\n" + block[4]
    (role,) = [role for role in rights.ROLES if role == block[2]]
    account = "custsvc_" + re.sub(r"[^a-z]+", "_", role)
    lines = {
        "PostgreSQL": lambda: postgres.grants(role, account),
        "MongoDB": lambda: [mongo.role_command(role, account)],
    }[block[3]]()
    return block[1] + "\n".join(lines) + "\n" + block[4]


def main() -> int:
    """Write the pages, or with `--check` say which are out of date."""
    failures = 0
    schema = json(event_schema())
    pages = {"cli.md": cli(), "settings.md": settings(), "permissions.md": permissions()}
    pages |= {"events.schema.json": schema, "asyncapi.json": json(asyncapi())}
    pages["../custsvc/kafka/schemas/event.json"] = json(registry_schema())
    pages["events.avsc"] = json(avro_schema())
    for name, text in pages.items():
        page = HERE / name
        before = page.read_text(encoding="utf-8") if page.exists() else ""
        broken = breaks(_of_the_same_number(before), event_schema()) if before and text is schema else []
        for what in broken:
            print(f"{page}: breaks readers: {what}")  # noqa: T201 - a script
        failures += bool(broken)
        if "--check" not in sys.argv and not broken:
            page.write_text(text, encoding="utf-8")
        elif before != text:
            print(f"{page} is out of date: run python docs/generate.py")  # noqa: T201 - a script
            failures += 1
    return 1 if failures else 0


def _of_the_same_number(committed: str) -> Any:
    """The committed schema; what is new where it has an earlier number, which readers may not expect."""
    document, new = orjson.loads(committed), event_schema()
    return document if document["$id"] == new["$id"] else new


def json(document: Any) -> str:
    """A document as it is committed."""
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


if __name__ == "__main__":
    sys.exit(main())
