"""The first commands of the README, run as they stand; only port, number of customers and `pkill` differ."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from custsvc.local import ports, runs
from tests.chaos.roles import COMMAND, clean_environment
from tests.waiting import until

ROOT = Path(__file__).parents[2]
SEEDED = 20  # as setup/dev-startup.sh does the first time


class Place:
    """A folder as the README's reader has it: `.venv`, `.custsvc`, everything started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = ports.choose()
        (folder / ".venv").symlink_to(sys.prefix)
        # The reader's pkill finds one relay; here others of the machine's may run, so this one's is named.
        self._pkill = folder / "bin" / "pkill"
        self._pkill.parent.mkdir()
        self._pkill.write_text('#!/bin/sh\n[ "$3" = "custsvc relay" ] && kill "$1" "$RELAY"\n')
        self._pkill.chmod(0o755)

    def run(self, block: str) -> str:
        """Run a block of the README in a shell, and return all that it printed."""
        block = block.replace("localhost:8000", f"localhost:{self.port}").replace("100000", "2000")
        # The venv's activation puts its commands first, so pkill is a function of the shell.
        script = f'pkill() {{ "{self._pkill}" "$@"; }}\n. .venv/bin/activate\nset -eu\n{block}\nwait\n'
        env = clean_environment() | {"RELAY": str(self.pid("relay"))}
        process = subprocess.Popen(
            ["bash", "-c", script],
            cwd=self.folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            said, _ = process.communicate(timeout=300)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode == 0, said
        return said

    def pid(self, role: str) -> int | None:
        parts = runs.status(self.folder / ".custsvc").parts
        return next((part.pid for part in parts if part.name == role and part.running), None)

    def customer(self, customer_id: int) -> Any:
        with urllib.request.urlopen(f"http://localhost:{self.port}/api/customers/{customer_id}/") as answer:
            return json.load(answer)

    def has(self, customer_id: int) -> bool:
        try:
            return bool(self.customer(customer_id))
        except urllib.error.HTTPError:
            return False

    def custsvc(self, *words: str) -> None:
        subprocess.run([*COMMAND, *words], cwd=self.folder, env=clean_environment(), check=True, timeout=300)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    try:
        place.custsvc("up", "--detach", "--port", str(place.port), "--seed", str(SEEDED))
        until("the first customers are there", lambda: place.has(SEEDED))
        yield place
    finally:
        place.custsvc("down")


def blocks() -> list[str]:
    start = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Start in five minutes")[2]
    return re.findall(r"```sh\n(.*?)```", start.partition("\n## ")[0], re.DOTALL)


def test_the_first_blocks_of_the_readme_do_what_they_say(place: Place) -> None:
    setup, customer, kill = blocks()
    assert "setup/dev-startup.sh" in setup

    said = place.run(customer)

    assert "postgres → mongo: " in said
    assert "all identical" in said
    ada = place.customer(SEEDED + 1)
    assert (ada["name"], ada["phone"], ada["version"]) == ("Ada", "+44 20 7946 0000", 2)
    assert {place.customer(number)["version"] for number in range(1, SEEDED + 1)} == {1}

    relay = place.pid("relay")
    said = place.run(kill)

    assert "all identical" in said
    assert until("relay runs again", lambda: place.pid("relay")) != relay
    assert place.customer(2000)["version"] == 1
