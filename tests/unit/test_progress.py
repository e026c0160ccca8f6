"""A bar costs nothing where nobody sees it, and never a count of all customers."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import custsvc.cli
from custsvc.cli.common import GlobalOptions
from custsvc.cli.progress import bar

COMMANDS = sorted(Path(custsvc.cli.__file__).parent.glob("*.py"))


@pytest.mark.parametrize(
    ("on_a_terminal", "quiet", "hidden"),
    [(True, False, False), (False, False, False), (True, True, False), (True, False, True)],
)
def test_a_total_is_asked_for_only_where_the_bar_is_shown(
    monkeypatch: pytest.MonkeyPatch, *, on_a_terminal: bool, quiet: bool, hidden: bool
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: on_a_terminal)
    monkeypatch.setattr(GlobalOptions, "quiet", quiet)
    asked = []

    def total() -> int:
        asked.append(True)
        return 3

    with bar("counting", total, hidden=hidden) as progress:
        progress(1)

    assert asked == [True] * (on_a_terminal and not quiet and not hidden)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda path: path.stem)
def test_no_command_counts_all_customers_for_its_bar(command: Path) -> None:
    # Of ten millions an exact count may take longer than a statement may.
    tree = ast.parse(command.read_text())
    counts = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and any(ast.unparse(each).endswith("customers.count") for each in (node.func, *node.args))
    ]
    exact = [ast.unparse(node) for node in counts if "exact=False" not in ast.unparse(node)]
    assert exact == []
