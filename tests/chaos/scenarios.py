"""The tests of each scenario: those whose docstring begins with its name, as `O6, X3: …`."""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]

_NAMES = re.compile(r"((?:[A-Z]\d+(?:, )?)+)[.:]")


def scenarios() -> dict[str, list[str]]:
    """Per scenario the tests, as pytest names them."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
                continue
            if names := _NAMES.match(ast.get_docstring(node) or ""):
                for name in names[1].split(", "):
                    found[name].append(f"{path.relative_to(ROOT)}::{node.name}")
    return dict(sorted(found.items(), key=lambda each: (each[0][0], int(each[0][1:]))))


def main() -> None:
    known = scenarios()
    if len(sys.argv) > 1:
        print(*known.get(sys.argv[1].upper(), []), sep="\n")
        return
    for name, tests in known.items():
        for test in tests:
            print(f"{name:4} {test.partition('::')[2].removeprefix('test_').replace('_', ' ')}")


if __name__ == "__main__":
    main()
