"""The manifests of docker/k8s: valid by Kubernetes' own schema, and true to the code."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import typer
import yaml

from custsvc.cli import app
from custsvc.config import SETTINGS, Settings
from custsvc.copies.replicate import group
from custsvc.http.guard import PROBES
from custsvc.notify.intake.consumer import GROUP

ROOT: Final = Path(__file__).parents[2] / "docker" / "k8s"
# The oldest release that the manifests are for.
KUBERNETES: Final = "1.32"
WORKERS: Final = {"relay", "replicate", "notify"}
OTHER: Final = {"postgres": "mongo", "mongo": "postgres"}
ADDRESS: Final = {
    "CUSTSVC_POSTGRES_URL": "postgresql://u:p@h/d",
    "CUSTSVC_MONGO_URL": "mongodb://h/d",
    "CUSTSVC_SMTP_URL": "smtp://u:p@h",
}

Manifest = dict[str, Any]


def documents(text: str) -> list[Manifest]:
    return [each for each in yaml.safe_load_all(text) if each]


def built(folder: Path) -> list[Manifest]:
    """The objects that kustomize makes of a folder."""
    for command in (["kubectl", "kustomize"], ["kustomize", "build"]):
        if shutil.which(command[0]):
            done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            return documents(done.stdout)
    pytest.skip("neither kubectl nor kustomize is here")


@pytest.fixture(scope="module", params=["postgres", "mongo"])
def overlay(request: pytest.FixtureRequest) -> tuple[str, list[Manifest]]:
    """The system of record, and all that its overlay makes, scaled by KEDA."""
    backend = str(request.param)
    keda = "keda" if backend == "postgres" else "keda-mongo"
    made = ROOT / "overlays" / backend / "kustomization.yaml"
    text = made.read_text(encoding="utf-8")
    assert f"# components:\n#   - ../../components/{keda}\n" in text
    return backend, built(made.parent)


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    return [each for each in manifests if each["kind"] in kinds]


def pod(manifest: Manifest) -> tuple[dict[str, str], Manifest, Manifest]:
    """The labels, the pod and the container of a Deployment or Job."""
    template = manifest["spec"]["template"]
    (container,) = template["spec"]["containers"]
    return template["metadata"]["labels"], template["spec"], container


def test_every_file_is_valid_and_its_base_needs_no_tool_to_be_read() -> None:
    for path in sorted((ROOT / "base").glob("*.yaml")):
        for each in documents(path.read_text(encoding="utf-8")):
            if each["kind"] != "Kustomization":
                kubernetes_validate.validate(each, KUBERNETES, strict=True)


def test_each_overlay_makes_valid_objects_and_none_twice(
    overlay: tuple[str, list[Manifest]],
) -> None:
    _, manifests = overlay

    for each in manifests:
        kubernetes_validate.validate(each, KUBERNETES, strict=True)
    names = [(each["kind"], each["metadata"]["name"]) for each in manifests]
    assert len(set(names)) == len(names)
    assert {each["metadata"]["labels"]["app.kubernetes.io/name"] for each in manifests} == {"custsvc"}


def test_every_pod_runs_a_command_with_options_that_exist(overlay: tuple[str, list[Manifest]]) -> None:
    backend, manifests = overlay
    commands: dict[str, Any] = vars(typer.main.get_command(app))["commands"]
    pods = of_kind(manifests, "Deployment", "Job")

    asked = {each["metadata"]["name"]: pod(each)[2]["args"] for each in pods}

    for name, *options in asked.values():
        known = {option for parameter in commands[name].params for option in parameter.opts}
        assert {option for option in options if option.startswith("--")} <= known
    assert {args[0] for args in asked.values()} == {"serve", "migrate", *WORKERS}
    assert asked["custsvc-migrate-source"] == ["migrate", "--backend", backend]
    assert asked["custsvc-migrate-copy"] == ["migrate", "--backend", OTHER[backend]]


def test_every_setting_exists_and_each_role_gets_the_database_that_it_works_on(
    overlay: tuple[str, list[Manifest]],
) -> None:
    backend, manifests = overlay
    (config,) = of_kind(manifests, "ConfigMap")

    for each in of_kind(manifests, "Deployment", "Job"):
        labels, _, container = pod(each)
        secret = [variable["name"] for variable in container.get("env", [])]
        settings = Settings.load(environ={**config["data"], **{name: ADDRESS[name] for name in secret}})
        needed = OTHER[backend] if each["metadata"]["labels"]["custsvc/database"] == "copy" else backend
        assert settings.url(needed)  # type: ignore[arg-type]
        assert settings.backend == backend
        is_named = {name for name in OTHER if getattr(settings, f"{name}_url")}
        assert is_named == {name for name in OTHER if labels.get(f"custsvc/{name}") == "yes"} == {needed}
        assert {"configMapRef": {"name": config["metadata"]["name"]}} in container["envFrom"]
        assert bool(settings.smtp_url) == (each["metadata"]["name"] == "custsvc-notify")


def test_ports_and_probes_are_those_that_the_roles_have(overlay: tuple[str, list[Manifest]]) -> None:
    _, manifests = overlay
    (config,) = of_kind(manifests, "ConfigMap")
    image = dict(re.findall(r"(CUSTSVC_\w+)=(\S+)", (ROOT.parent / "Dockerfile").read_text(encoding="utf-8")))
    settings = Settings.load(environ={**image, **config["data"]})

    for each in of_kind(manifests, "Deployment"):
        _, _, container = pod(each)
        (port,) = container["ports"]
        is_worker = container["args"][0] in WORKERS
        assert port["containerPort"] == (settings.metrics_port if is_worker else settings.http_port)
        assert (settings.metrics_host if is_worker else settings.http_host) == "0.0.0.0"
        probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
        assert {probe["path"] for probe in probes.values()} == {"/livez", "/readyz"} < set(PROBES)
        assert probes["liveness"]["path"] == probes["startup"]["path"] == "/livez"
        assert {probe["port"] for probe in probes.values()} == {port["name"]}
        marks = each["spec"]["template"]["metadata"]["annotations"]
        assert marks["prometheus.io/port"] == str(port["containerPort"])


def test_every_pod_is_without_rights_and_without_foreign_variables(
    overlay: tuple[str, list[Manifest]],
) -> None:
    _, manifests = overlay

    for each in of_kind(manifests, "Deployment", "Job"):
        _, spec, container = pod(each)
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] == 10001
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        # A Service called custsvc would set CUSTSVC_PORT in every pod, which is no setting.
        assert spec["enableServiceLinks"] is False
        assert container["resources"]["limits"]["memory"] and container["resources"]["requests"]["cpu"]
    assert of_kind(manifests, "Secret") == []


def test_every_selector_finds_the_pods_that_it_is_for(overlay: tuple[str, list[Manifest]]) -> None:
    _, manifests = overlay
    pods = [pod(each)[0] for each in of_kind(manifests, "Deployment", "Job")]

    def found(selector: dict[str, str]) -> int:
        return sum(selector.items() <= labels.items() for labels in pods)

    for each in of_kind(manifests, "PodDisruptionBudget"):
        assert found(each["spec"]["selector"]["matchLabels"]) == 1
    for each in of_kind(manifests, "Service"):
        assert found(each["spec"]["selector"]) == 1
    for each in of_kind(manifests, "Deployment"):
        assert found(each["spec"]["selector"]["matchLabels"]) == 1
        assert each["spec"]["replicas"] >= 2
    policies = {each["metadata"]["name"]: each["spec"] for each in of_kind(manifests, "NetworkPolicy")}
    counts = {name: found(spec["podSelector"]["matchLabels"]) for name, spec in policies.items()}
    assert counts["custsvc-nothing-else"] == len(pods) == 6
    assert counts["custsvc-kafka"] == 4
    assert counts["custsvc-postgres"] + counts["custsvc-mongo"] == len(pods)
    assert all(counts.values())
    assert len(of_kind(manifests, "PodDisruptionBudget")) == 4


@pytest.mark.parametrize(("backend", "component"), [("postgres", "keda"), ("mongo", "keda-mongo")])
def test_keda_watches_the_groups_and_the_topic_that_the_roles_read(
    backend: str, component: str, tmp_path: Path
) -> None:
    shutil.copytree(ROOT, tmp_path / "k8s")
    made = tmp_path / "k8s" / "overlays" / backend / "kustomization.yaml"
    made.write_text(made.read_text().replace("# components:\n#   -", "components:\n  -"))

    manifests = built(made.parent)

    scaled = {each["metadata"]["name"]: each["spec"] for each in of_kind(manifests, "ScaledObject")}
    triggers = {name: spec["triggers"][0]["metadata"] for name, spec in scaled.items()}
    assert triggers["custsvc-replicate"]["consumerGroup"] == "custsvc-" + group(OTHER[backend])
    assert triggers["custsvc-notify"]["consumerGroup"] == "custsvc-" + GROUP
    for name, spec in scaled.items():
        (target,) = [e for e in of_kind(manifests, "Deployment") if e["metadata"]["name"] == name]
        assert "replicas" not in target["spec"] and spec["scaleTargetRef"] == {"name": name}
        assert spec["maxReplicaCount"] == SETTINGS["partitions"].default
        assert triggers[name]["topic"] == SETTINGS["topic_updates"].default
        assert triggers[name]["bootstrapServersFromEnv"] == "CUSTSVC_KAFKA"
