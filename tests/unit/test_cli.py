"""Promises of every command: its output streams, its verbosity, and its exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from custsvc.cli import output
from tests.processes import run_custsvc


def run(*arguments: str, cwd: Path, **environment: str) -> CompletedProcess[str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("CUSTSVC_")}
    return run_custsvc(*arguments, env={**ours, "CUSTSVC_LOCAL": "never", **environment}, cwd=cwd)


def test_an_error_is_one_line_with_the_fix_below_it_and_its_own_exit_code(tmp_path: Path) -> None:
    done = run("relay", cwd=tmp_path)

    assert done.returncode == 3
    assert done.stdout == ""
    first, second = done.stderr.splitlines()
    assert first == "error: the address of the postgres database is not set"
    assert second.startswith("fix: set CUSTSVC_POSTGRES_URL")


@pytest.mark.parametrize("place", ["before", "after"])
def test_debug_shows_the_traceback_wherever_it_stands(tmp_path: Path, place: str) -> None:
    words = ["--debug", "relay"] if place == "before" else ["relay", "--debug"]

    assert "Traceback" in run(*words, cwd=tmp_path).stderr
    assert "Traceback" not in run("relay", cwd=tmp_path).stderr


def test_an_unknown_option_is_a_usage_error_that_names_it(tmp_path: Path) -> None:
    done = run("serve", "--prot", "80", cwd=tmp_path)

    assert done.returncode == 2
    assert "--prot" in done.stderr


def test_an_unknown_setting_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    done = run("config", "show", cwd=tmp_path, CUSTSVC_BAKEND="mongo")

    assert done.returncode == 3
    assert "fix: did you mean CUSTSVC_BACKEND?" in done.stderr


def test_verbose_and_quiet_set_how_much_is_logged_and_a_given_level_wins(tmp_path: Path) -> None:
    def level(*words: str) -> str:
        shown = run("config", "show", "-o", "csv", *words, cwd=tmp_path).stdout
        (line,) = [line for line in shown.splitlines() if line.startswith("CUSTSVC_LOG_LEVEL,")]
        return line.split(",")[1]

    assert (level(), level("-v"), level("--quiet")) == ("INFO", "DEBUG", "WARNING")


def test_colours_are_for_terminals_and_can_be_refused(tmp_path: Path) -> None:
    colored = run("doctor", cwd=tmp_path, FORCE_COLOR="1").stdout
    plain = run("doctor", "--no-color", cwd=tmp_path, FORCE_COLOR="1").stdout
    piped = run("doctor", cwd=tmp_path).stdout

    assert "\x1b[33m" in colored
    assert "\x1b[33m" not in plain
    assert "\x1b" not in piped


@pytest.mark.parametrize(
    "words", [("schema",), ("config", "show"), ("config", "show", "-o", "csv"), ("--help",)], ids=" ".join
)
def test_a_pipe_that_nobody_reads_ends_a_command_without_a_word(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    reads, writes = os.pipe()
    os.close(reads)

    with os.fdopen(writes, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "custsvc", *words],
            stdout=pipe,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            check=False,
        )

    assert (done.returncode, done.stderr) == (141, b"")


def test_a_table_of_csv_holds_no_formula(capsys: pytest.CaptureFixture[str]) -> None:
    output.rows("csv", ["name", "count"], [{"name": "=1+1", "count": -1, "more": 1}, {"name": "a;@b"}])

    assert capsys.readouterr().out == "name,count\n'=1+1,-1\na;'@b,\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
@pytest.mark.parametrize(
    "words",
    [("doctor",), ("config", "show"), ("config", "show", "-o", "csv"), ("config", "show", "-o", "json")],
    ids=" ".join,
)
def test_a_character_that_a_terminal_lacks_ends_no_command_and_programs_get_utf_8(
    words: tuple[str, ...], encoding: str, tmp_path: Path
) -> None:
    file = tmp_path / "Zoë 山.toml"
    file.write_text("")
    ours = {name: value for name, value in os.environ.items() if not name.startswith("CUSTSVC_")}

    done = subprocess.run(
        [sys.executable, "-m", "custsvc", *words],
        env={
            **ours,
            "PYTHONIOENCODING": encoding,
            "CUSTSVC_LOCAL": "never",
            "CUSTSVC_NOTIFY_RULES": str(file),
        },
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )

    assert b"Traceback" not in done.stderr
    assert done.returncode in (0, 7)
    if "-o" in words:
        assert "Zoë 山" in done.stdout.decode()
    else:
        done.stdout.decode(encoding)


def test_an_argument_that_the_locale_cannot_hold_is_refused_with_the_locale_as_reason(tmp_path: Path) -> None:
    old = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "CUSTSVC_LOCAL": "never"}

    done = subprocess.run(
        [sys.executable, "-m", "custsvc", "customers", "create", "--name", "Zoë"],
        env={**os.environ, **old},
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )

    assert done.returncode == 3
    error, fix = done.stderr.decode().splitlines()
    assert "encoding of this environment" in error
    assert fix.startswith("fix: ")
    assert "PYTHONUTF8=1" in fix


@pytest.mark.parametrize("module", ["typer", "rich", "custsvc.cli.doctor"])
def test_ctrl_c_while_a_command_is_loaded_leaves_no_traceback(module: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
    )

    done = subprocess.run(
        [sys.executable, "-m", "custsvc", "doctor"],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "CUSTSVC_LOCAL": "never"},
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")
