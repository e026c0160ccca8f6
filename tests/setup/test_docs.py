"""The reference pages are what the code says, and the README names no command that is not there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import typer.main

from custsvc.cli import app
from custsvc.config import FIELDS

ROOT = Path(__file__).parents[2]


def test_the_reference_pages_are_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_command_that_the_readme_shows_exists() -> None:
    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    shown = re.findall(r"(?:^|[`(\s])custsvc ([a-z][a-z-]+)", (ROOT / "README.md").read_text(), re.MULTILINE)

    assert len(shown) > 10
    assert set(shown) <= commands


def test_every_variable_that_the_readme_names_is_a_setting() -> None:
    named = set(re.findall(r"CUSTSVC_([A-Z_]+)\b", (ROOT / "README.md").read_text()))

    assert {name.lower() for name in named} <= set(FIELDS)


def test_every_command_says_how_it_is_used() -> None:
    def silent(command: Any, words: str) -> list[str]:
        inner = getattr(command, "commands", {})
        if not inner:
            return [] if "Example: " in (command.help or "") else [words]
        return [found for name, each in inner.items() for found in silent(each, f"{words} {name}".strip())]

    assert silent(typer.main.get_command(app), "") == []
