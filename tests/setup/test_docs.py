"""The reference pages match the code, and the README names only existing commands."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

from custsvc.cli import app
from custsvc.config import SETTINGS
from custsvc.ports.facts import Fact
from custsvc.ports.shelf import Shelved

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_generated_pages_are_up_to_date() -> None:
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

    assert {name.lower() for name in named} <= set(SETTINGS)


def test_every_command_says_how_it_is_used() -> None:
    def silent(command: Any, words: str) -> list[str]:
        inner = getattr(command, "commands", {})
        if not inner:
            return [] if "Example: " in (command.help or "") else [words]
        return [found for name, each in inner.items() for found in silent(each, f"{words} {name}".strip())]

    assert silent(typer.main.get_command(app), "") == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    named = re.findall(r"`((?:custsvc|tests|docs|setup)/[\w./-]*)", page.read_text(encoding="utf-8"))

    assert [name for name in named if not (ROOT / name).exists()] == []


@cache
def _defined(path: str) -> set[str]:
    """What a module defines: functions, classes with their methods, constants and fields."""
    return set(_names(ast.parse((ROOT / path).read_text(encoding="utf-8")).body))


def _names(body: list[ast.stmt]) -> Iterator[str]:
    for each in body:
        if isinstance(each, ast.FunctionDef):
            yield each.name
        elif isinstance(each, ast.ClassDef):
            yield each.name
            yield from (f"{each.name}.{inner}" for inner in _names(each.body))
        elif isinstance(each, ast.Assign | ast.AnnAssign):
            targets = each.targets if isinstance(each, ast.Assign) else [each.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def test_every_function_that_the_architecture_page_names_is_in_its_file() -> None:
    named = re.findall(r"`(custsvc/[\w/]+\.py)`\s+\(?((?:`[\w.]+`(?:,| or)? ?)+)", ARCHITECTURE)
    pairs = [(path, name) for path, names in named for name in re.findall(r"[\w.]+(?=`)", names)]

    assert len(pairs) > 50
    assert [(path, name) for path, name in pairs if name not in _defined(path)] == []


def test_every_method_that_the_architecture_page_names_is_there() -> None:
    there = {
        name for path in (ROOT / "custsvc").rglob("*.py") for name in _defined(str(path.relative_to(ROOT)))
    }

    named = re.findall(r"`([A-Z]\w+\.[a-z_]\w*)`", ARCHITECTURE)

    assert len(named) > 50
    assert set(named) - there - {"README.md"} == set()


@cache
def test_the_code_names_every_fact_by_the_table() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in (ROOT / "custsvc").rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and _is_of_facts(call.func) and _begins_with_text(call.args[0])
    ]

    assert found == []


def _is_of_facts(function: ast.expr) -> bool:
    if not isinstance(function, ast.Attribute):
        return False
    of = ast.unparse(function.value)
    if function.attr == "keep":
        return of.endswith(("facts", "connection"))
    return of.endswith("facts") and function.attr in ("get", "put", "drop", "all", "drop_all")


def _begins_with_text(name: ast.expr) -> bool:
    first = name.values[0] if isinstance(name, ast.JoinedStr) else name
    return isinstance(first.left if isinstance(first, ast.BinOp) else first, ast.Constant)


def test_the_architecture_page_lists_every_fact_all_on_the_shelf_and_every_topic() -> None:
    facts, shelved = ARCHITECTURE.split("### Facts")[1].split("### Topics")[0].split("| on the shelf |")
    for table, names in ((facts, Fact), (shelved, Shelved)):
        cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
        listed = [re.sub(r"[A-Z].*", "", name) for cell in cells for name in re.findall(r"`(\S+)`", cell)]
        assert sorted(listed) == sorted(value for name, value in vars(names).items() if name.isupper())

    assert {setting.default for name, setting in SETTINGS.items() if name.startswith("topic_")} - set(
        re.findall(r"^\| `(\S+)`", ARCHITECTURE, re.MULTILINE)
    ) == set()
