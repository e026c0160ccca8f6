"""A plain install has all that the package imports; code that needs an extra names it."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from custsvc.runtime import extras
from custsvc.runtime.extras import NotInstalled, needs, require

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Packages that come with a dependency.
_BROUGHT = {"anyio": "httpx", "idna": "email-validator", "markupsafe": "jinja2", "werkzeug": "flask"}


def _name(requirement: str) -> str:
    return re.split(r"[\s<>=!~;\[]", requirement)[0].lower().replace("_", "-")


BASE = {_name(each) for each in PROJECT["dependencies"]}
OPTIONAL = {
    extra: {_name(each) for each in PROJECT["optional-dependencies"][extra]}
    for extra in ("channels", "local", "mcp", "msk", "oidc", "otel", "registry", "xlsx")
}
_DISTRIBUTIONS = {
    module: {name.lower().replace("_", "-") for name in names}
    for module, names in importlib.metadata.packages_distributions().items()
}


def _imports(tree: ast.Module) -> Iterator[str]:
    """The outside packages that a module imports anywhere, but for those that only types need."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "find_spec")):
            names = [ast.literal_eval(arg) for arg in node.args[:1] if isinstance(arg, ast.Constant)]
        for name in names:
            package = name.partition(".")[0]
            if package and package not in {*sys.stdlib_module_names, "custsvc"}:
                yield package


MODULES = sorted((ROOT / "custsvc").rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_installed_packages_or_names_the_extra(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    for package in set(_imports(ast.parse(text))):
        distributions = _DISTRIBUTIONS.get(package, set())
        if distributions & BASE or _BROUGHT.get(package) in BASE:
            continue
        extra = next((e for e, names in OPTIONAL.items() if distributions & names), None)
        assert extra is not None, f"{package} is no dependency"
        is_looked_for = "find_spec(" in text
        assert f'needs("{extra}")' in text or f'require("{extra}"' in text or is_looked_for, package


def test_the_extras_hold_the_packages_that_they_are_named_for() -> None:
    for extra, (_, packages, _) in extras._BRINGS.items():
        known = {dist for package in packages.split() for dist in _DISTRIBUTIONS.get(package, set())}

        assert known & OPTIONAL[extra] == OPTIONAL[extra] & known
        assert {d for d in OPTIONAL[extra] if d in set().union(*_DISTRIBUTIONS.values())} <= known


def test_no_extra_is_for_one_kind_of_processor() -> None:
    wanted = [each for names in PROJECT["optional-dependencies"].values() for each in names]

    assert [each for each in wanted if "platform_machine" in each] == []


def test_a_missing_package_of_an_extra_is_an_error_with_the_fix() -> None:
    with pytest.raises(NotInstalled, match="psutil is missing") as caught, needs("local"):
        raise ModuleNotFoundError("No module named 'psutil'", name="psutil")

    assert caught.value.exit_code == 3
    assert caught.value.fix == "pip install 'custsvc[local]'"


def test_a_missing_package_that_no_extra_brings_is_a_bug_and_stays_one() -> None:
    with pytest.raises(ModuleNotFoundError), needs("oidc"):
        raise ModuleNotFoundError("No module named 'custsvc.nothing'", name="custsvc.nothing")


def test_installed_packages_are_required_without_an_import() -> None:
    require("local", "psutil")
    with pytest.raises(NotInstalled):
        require("local", "no_such_package")
