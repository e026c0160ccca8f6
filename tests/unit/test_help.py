"""What the help of a command says about a setting is what the setting is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from custsvc.cli import app
from custsvc.config import PREFIX, SETTINGS

_SAYS = re.compile(r"\[env: (CUSTSVC_\w+); default: ([^\]]+)\]")


def options(command: Any, path: str) -> Iterator[tuple[str, str]]:
    """Each option of each command, and its help."""
    for name, each in getattr(command, "commands", {}).items():
        yield from options(each, f"{path} {name}")
    for each in command.params:
        yield f"{path} {each.opts[0]}", getattr(each, "help", None) or ""


SAID = [
    (option, variable, default)
    for option, text in options(typer.main.get_command(app), "custsvc")
    for variable, default in _SAYS.findall(text)
]


@pytest.mark.parametrize(("option", "variable", "default"), SAID, ids=[option for option, _, _ in SAID])
def test_the_default_in_the_help_of_an_option_is_that_of_its_setting(
    option: str, variable: str, default: str
) -> None:
    real = SETTINGS[variable.removeprefix(PREFIX).lower()].default
    assert default == {True: "on", False: "off"}.get(
        real, format(real, "g") if isinstance(real, float) else str(real)
    )


def test_the_help_names_defaults_of_many_settings() -> None:
    assert len({variable for _, variable, _ in SAID}) > 8
