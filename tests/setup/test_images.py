"""The parts of the image: the lock file, the steps of the Dockerfile, and the base images."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
LOCKS = [ROOT / "docker" / "requirements.lock", ROOT / "docker" / "build.lock"]
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
# The image's environment, whatever this test runs on.
_IMAGE = {"python_version": "3.13", "python_full_version": "3.13.0", "sys_platform": "linux", "extra": ""}


def entries(lock: Path) -> dict[str, tuple[str, str]]:
    """Each locked package: its version, and all of its entry."""
    text = lock.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    found: dict[str, tuple[str, str]] = {}
    for line in lines:
        pinned = re.match(r"([A-Za-z0-9_.-]+)==([^\s;]+)", line)
        assert pinned, line
        found[canonicalize_name(pinned[1])] = (pinned[2], line)
    return found


def wanted() -> Iterator[tuple[Path, Requirement]]:
    extras = PROJECT["project"]["optional-dependencies"]
    for text in [
        *PROJECT["project"]["dependencies"],
        *extras["channels"],
        *extras["oidc"],
        *extras["otel"],
        *extras["registry"],
        *extras["xlsx"],
    ]:
        yield LOCKS[0], Requirement(text)
    for text in PROJECT["build-system"]["requires"]:
        yield LOCKS[1], Requirement(text)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_locked_package_has_one_version_and_its_hashes(lock: Path) -> None:
    found = entries(lock)

    assert found
    assert [name for name, (_, entry) in found.items() if not _HASH.search(entry)] == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_names_no_index_and_no_host(lock: Path) -> None:
    assert re.findall(r"https?:|--index|--extra-index|--find-links|--trusted-host", lock.read_text()) == []


@pytest.mark.parametrize(
    ("lock", "requirement"), list(wanted()), ids=lambda part: str(getattr(part, "name", part))
)
def test_each_dependency_is_locked_at_an_allowed_version(lock: Path, requirement: Requirement) -> None:
    version, _ = entries(lock)[canonicalize_name(requirement.name)]

    assert requirement.specifier.contains(version), f"{requirement} is locked at {version}: run setup/lock.sh"


def test_the_lock_has_no_package_of_the_embedded_servers_or_of_tests() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    unwanted = {canonicalize_name(Requirement(text).name) for text in [*extras["local"], *extras["test"]]}

    assert unwanted & set(entries(LOCKS[0])) == {"pyyaml"}  # Apprise's


def test_the_image_installs_only_locked_packages() -> None:
    installs = re.findall(r"pip (?:--python \S+ )?(?:install|wheel)[^\n]*(?:\\\n[^\n]*)*", DOCKERFILE)

    assert len(installs) >= 3
    for command in installs:
        locked = "--require-hashes" in command and "--only-binary :all:" in command
        own = "--no-index" in command and "--no-deps" in command
        assert locked or own, command


def test_the_image_with_the_sign_in_to_msk_gets_the_version_that_is_tested() -> None:
    page = (ROOT / "docs" / "kafka.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^RUN pip --python (\S+) install \S+ (\S+)==(\S+)$", page, re.MULTILINE)
    python, package, version = command

    assert f"{python} install" in DOCKERFILE
    assert entries(ROOT / "setup" / "dev.lock")[package][0] == version
    (needed,) = (
        each
        for each in map(Requirement, PROJECT["project"]["optional-dependencies"]["msk"])
        if each.name == package
    )
    assert needed.specifier.contains(version)


def test_every_file_that_the_dockerfile_copies_gets_into_its_context() -> None:
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = {line[1:] for line in ignored if line.startswith("!")}

    for path in " ".join(copied).split():
        assert (ROOT / path).exists(), path
        assert any(path == each or path.startswith(f"{each}/") for each in let_in), path


def test_the_locked_packages_are_there_for_the_images_python(tmp_path: Path) -> None:
    """The first steps of the Dockerfile, for its Python and both kinds of processors, without installing."""
    for machine in ("x86_64", "aarch64"):
        tags = [f"manylinux_2_{n}_{machine}" for n in (17, 24, 28)]
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--dry-run",
            "--quiet",
            "--target",
            str(tmp_path / machine),
        ]
        command += ["--python-version", "3.13", *(part for tag in tags for part in ("--platform", tag))]
        command += ["--only-binary", ":all:", "--require-hashes", "-r", str(LOCKS[1])]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)

        assert done.returncode == 0, done.stderr


# -- images of others --------------------------------------------------------------------------------------


def images() -> list[str]:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    found = {service["image"] for service in services.values()} - {"custsvc:latest"}
    return [*sorted(found), *re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", DOCKERFILE, re.MULTILINE)]


@pytest.mark.parametrize("image", images())
def test_an_image_of_others_has_the_tag_of_one_version(image: str) -> None:
    assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+(\.\d+)?(-[a-z-]+)?(@sha256:[0-9a-f]{64})?", image), image


def test_mailpit_has_no_hole_that_is_known() -> None:
    (tag,) = [image for image in images() if image.startswith("axllent/mailpit:")]
    version = tuple(map(int, re.findall(r"\d+", tag.partition(":")[2].partition("@")[0])))

    assert version >= (1, 30, 6)  # GHSA-8r62-w5wh-fc5m and those before it


_DOCKER = """#!/usr/bin/env bash
case "$1 $2" in
  "info "*) exit ;;
  "buildx version") exit ;;
  "buildx imagetools") printf 'sha256:%s\\n' "$(printf '%s' "${@: -1}" | sha256sum | cut -d' ' -f1)" ;;
  *) exit 1 ;;
esac
"""


_RECORDER = """#!/usr/bin/env bash
if [[ "$1" == build || "$1 $2" == "buildx build" ]]; then printf '%s\\n' "$@" > "$RECORD"; fi
"""


@pytest.mark.parametrize("platforms", ["", "linux/amd64,linux/arm64"])
def test_the_image_is_built_for_the_platforms_that_are_wanted_with_an_sbom(
    platforms: str, tmp_path: Path
) -> None:
    docker = tmp_path / "docker"
    docker.write_text(_RECORDER)
    docker.chmod(0o755)
    given = {"PLATFORMS": platforms, "IMAGE": "registry.example/custsvc", "RECORD": str(tmp_path / "asked")}

    subprocess.run(
        ["bash", str(ROOT / "setup" / "build.sh"), "--push"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", **given},
        check=True,
        timeout=120,
        capture_output=True,
    )

    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[0] == ("buildx" if platforms else "build")
    assert (platforms in asked and "--sbom=true" in asked) == bool(platforms)
    assert {"docker/Dockerfile", "registry.example/custsvc:latest", "--push"} <= set(asked)


def test_the_script_pins_every_image_and_reports_an_unpinned_one(tmp_path: Path) -> None:
    for name in ("docker-compose.yml", "docker/Dockerfile", "setup/pin-images.sh", "setup/lib.sh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(_DOCKER)
    docker.chmod(0o755)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(tmp_path / "setup" / "pin-images.sh"), *arguments],
            env={"PATH": f"{docker.parent}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    before = run("--check")
    pinned = run()
    after = run("--check")

    texts = "".join((tmp_path / name).read_text() for name in ("docker-compose.yml", "docker/Dockerfile"))
    assert (before.returncode, "not pinned: " in before.stderr) == (1, True), before.stderr
    assert pinned.returncode == 0, pinned.stderr
    assert after.returncode == 0, after.stderr
    for image in images():
        assert re.search(
            re.escape(image.partition("@")[0]) + r"@sha256:[0-9a-f]{64}$", texts, re.MULTILINE
        ), image
    assert "image: custsvc:latest\n" in texts
