"""The dashboard and the alerts: they name metrics that exist, and each alert fires by its trouble alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from custsvc.dashboards.export import ALERTS, DASHBOARD, alerts
from custsvc.runtime import metrics
from custsvc.runtime.metrics_server import exposition
from tests.processes import run_custsvc
from tests.promql import Evaluation, Labels, selectors

ROOT: Final = Path(__file__).parents[2]
RULES: Final = yaml.safe_load(alerts("https://example.org/runbooks"))["groups"][0]["rules"]
BY_NAME: Final = {rule["alert"]: rule for rule in RULES}
EXPRESSIONS: Final = [(rule["alert"], rule["expr"]) for rule in RULES]
HOUR, STEP, NOW = 3600.0, 60.0, 1_800_000_000.0

Value = Callable[[float], float | None]


def documented() -> dict[str, set[str]]:
    """Each metric with its labels, as docs/metrics.md has them, which a test of the metrics holds true."""
    table = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(custsvc_\w+)` \|([^|]*)\|", table, re.MULTILINE)
    found = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    http = "custsvc_http_request_duration_seconds"
    found |= {f"{http}_count": found[http], f"{http}_bucket": {*found[http], "le"}}
    return found | {"process_resident_memory_bytes": set()}


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The dashboard, as the command writes it beside the alerts."""
    folder = tmp_path_factory.mktemp("dashboards")
    done = run_custsvc("dashboards", "export", str(folder / "new"), env={}, cwd=folder)
    assert done.returncode == 0, done.stderr
    written = yaml.safe_load((folder / "new" / ALERTS).read_text())
    assert [rule["alert"] for rule in written["groups"][0]["rules"]] == list(BY_NAME)
    assert "RUNBOOKS" not in (folder / "new" / ALERTS).read_text()
    return dict(json.loads((folder / "new" / DASHBOARD).read_text()))


def check(expression: str) -> None:
    known = documented()
    for selector in selectors(expression):
        assert selector.name in known, expression
        used = {matcher.name for matcher in selector.matchers.matchers}
        assert used <= known[selector.name], expression


def test_every_query_of_the_dashboard_is_of_metrics_and_labels_that_exist(dashboard: dict[str, Any]) -> None:
    charts = [panel for panel in dashboard["panels"] if panel["type"] != "row"]

    for panel in charts:
        for target in panel["targets"]:
            check(target["expr"])
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in dashboard["panels"]]
    assert len(charts) > 10
    assert len(set(places)) == len(places) and len({p["id"] for p in dashboard["panels"]}) == len(places)


@pytest.mark.parametrize(("name", "expression"), EXPRESSIONS, ids=list(BY_NAME))
def test_an_alert_is_of_metrics_that_exist_and_has_a_page(name: str, expression: str) -> None:
    check(expression)

    rule = BY_NAME[name]
    page = ROOT / "docs" / "runbooks" / f"{name}.md"
    text = page.read_text(encoding="utf-8")
    assert rule["annotations"]["runbook_url"] == f"https://example.org/runbooks/{name}.md"
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert text.startswith(f"# {name}\n") and "\n## Look at\n- " in text and "\n## Do\n- " in text


def test_no_page_is_left_of_an_alert_that_is_gone() -> None:
    assert {page.stem for page in (ROOT / "docs" / "runbooks").glob("*.md")} == set(BY_NAME)


def test_the_commands_of_the_pages_exist() -> None:
    pages = "\n".join(page.read_text() for page in (ROOT / "docs" / "runbooks").glob("*.md"))
    reference = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    commands = set(re.findall(r"^## (custsvc[a-z -]*)$", reference, re.MULTILINE))

    named = {name.strip() for name in re.findall(r"`(custsvc(?: [a-z]+)+)", pages)}

    assert named and named <= commands


# -- firing ------------------------------------------------------------------------------------------------

_HTTP = "custsvc_http_request_duration_seconds"


def labels(**pairs: str) -> Labels:
    return frozenset(pairs.items())


def always(value: float) -> Value:
    return lambda _: value


def growing(a_second: float) -> Value:
    return lambda at: 1_000.0 + (at - NOW + 3 * HOUR) * a_second


ANSWERS = {"method": "GET", "route": "/api/customers"}
OK, BAD = labels(**ANSWERS, status="200"), labels(**ANSWERS, status="500")
QUICK = labels(**ANSWERS, status="200", le="1.0")
COPY, INTAKE = {"loop": "the copy", "topic": "t", "partition": "0"}, {"loop": "intake", "topic": "t"}

HEALTHY: Final[dict[tuple[str, Labels], Value]] = {
    **{
        ("custsvc_info", labels(role=role, version="1", instance=f"{role}-1")): always(1)
        for role in ("serve", "relay", "replicate", "notify")
    },
    ("custsvc_dependency_up", labels(dependency="postgres", instance="a")): always(1),
    ("custsvc_dependency_up", labels(dependency="postgres", instance="b")): always(1),
    (f"{_HTTP}_count", OK): growing(100),
    (f"{_HTTP}_count", BAD): growing(0.1),
    (f"{_HTTP}_bucket", QUICK): growing(99.9),
    ("custsvc_outbox_oldest_age_seconds", labels()): always(1),
    ("custsvc_outbox_known_seconds", labels()): always(1),
    ("custsvc_loop_silence_seconds", labels(loop="relay", instance="relay-1")): always(1),
    ("custsvc_lag_oldest_seconds", labels(**COPY)): always(2),
    ("custsvc_lag_oldest_seconds", labels(**INTAKE)): always(2),
    ("custsvc_lag_known_seconds", labels(loop="the copy")): always(2),
    ("custsvc_events_total", labels(loop="the copy", result="written")): growing(100),
    ("custsvc_events_total", labels(loop="the copy", result="dead")): always(3),
    ("custsvc_topic_loss_timestamp_seconds", labels()): always(NOW - 30 * 86400),
    ("custsvc_verify_different", labels(copy="mongo")): always(0),
    ("custsvc_verify_timestamp_seconds", labels(copy="mongo")): always(NOW - 86400),
    ("custsvc_notifications", labels(state="sent")): growing(10),
    ("custsvc_notifications", labels(state="failed")): growing(0.001),
    ("custsvc_notifications", labels(state="unknown")): always(0),
    ("custsvc_notifications_oldest_age_seconds", labels()): always(30),
    ("custsvc_notifications_known_seconds", labels()): always(2),
    ("custsvc_notifications_stuck", labels()): always(0),
    ("custsvc_webhook_endpoints", labels(state="active")): always(3),
    ("custsvc_webhook_endpoints", labels(state="failing")): always(0),
}

# Each failure: the series that change, and the only alert that fires.
TROUBLE: Final[dict[str, dict[tuple[str, Labels], Value]]] = {
    "CustsvcRoleMissing": {
        ("custsvc_info", labels(role="relay", version="1", instance="relay-1")): lambda _: None
    },
    "CustsvcDatabaseDown": {
        ("custsvc_dependency_up", labels(dependency="postgres", instance=each)): always(0) for each in "ab"
    },
    "CustsvcApiErrors": {
        (f"{_HTTP}_count", BAD): growing(3),
        (f"{_HTTP}_bucket", labels(**ANSWERS, status="500", le="1.0")): growing(3),
    },
    "CustsvcApiSlow": {(f"{_HTTP}_bucket", QUICK): growing(90)},
    "CustsvcOutboxStuck": {("custsvc_outbox_oldest_age_seconds", labels()): always(121)},
    "CustsvcLoopSilent": {
        ("custsvc_loop_silence_seconds", labels(loop="relay", instance="relay-1")): always(61)
    },
    "CustsvcCopyBehind": {("custsvc_lag_oldest_seconds", labels(**COPY)): always(301)},
    "CustsvcIntakeBehind": {("custsvc_lag_oldest_seconds", labels(**INTAKE)): always(301)},
    "CustsvcLagUnknown": {("custsvc_lag_known_seconds", labels(loop="the copy")): always(301)},
    "CustsvcDeadLetters": {
        ("custsvc_events_total", labels(loop="the copy", result="dead")): lambda at: 3 + (at >= NOW - STEP)
    },
    "CustsvcTopicLostEvents": {("custsvc_topic_loss_timestamp_seconds", labels()): always(NOW - 60)},
    "CustsvcCopyDiffers": {("custsvc_verify_different", labels(copy="mongo")): always(1)},
    "CustsvcVerifyOverdue": {
        ("custsvc_verify_timestamp_seconds", labels(copy="mongo")): always(NOW - 9 * 86400)
    },
    "CustsvcMailsWaiting": {("custsvc_notifications_oldest_age_seconds", labels()): always(15_000)},
    "CustsvcMailsFailing": {("custsvc_notifications", labels(state="failed")): growing(0.01)},
    "CustsvcMailsUnknown": {("custsvc_notifications", labels(state="unknown")): always(1)},
    "CustsvcWebhookFailing": {("custsvc_webhook_endpoints", labels(state="failing")): always(1)},
    "CustsvcMailsStuck": {("custsvc_notifications_stuck", labels()): always(1)},
}


def firing(series: dict[tuple[str, Labels], Value]) -> dict[str, list[dict[str, str]]]:
    """The alerts that fire now, each with the labels of its vector."""
    found = {}
    for rule in RULES:
        steps = int(re.sub(r"\D", "", rule.get("for", "0m"))) + 1
        vectors = [Evaluation(series, NOW - step * STEP)(rule["expr"]) for step in range(steps)]
        if lasting := set.intersection(*(set(vector) for vector in vectors)):
            found[rule["alert"]] = [dict(each) for each in lasting]
    return found


def test_nothing_fires_while_all_is_well() -> None:
    assert firing(HEALTHY) == {}


@pytest.mark.parametrize("name", list(BY_NAME))
def test_an_alert_fires_by_its_trouble_and_no_other_does(name: str) -> None:
    found = firing(HEALTHY | TROUBLE[name])

    assert list(found) == [name]
    for label in re.findall(r"\$labels\.(\w+)", BY_NAME[name]["annotations"]["summary"]):
        assert all(each.get(label) for each in found[name]), label


def test_each_way_of_not_knowing_fires() -> None:
    for name in ("custsvc_outbox_known_seconds", "custsvc_notifications_known_seconds"):
        assert list(firing(HEALTHY | {(name, labels()): always(301)})) == ["CustsvcLagUnknown"]


def test_a_role_that_is_stopped_is_missed_by_what_it_really_shows() -> None:
    metrics.beat("relay")
    shown = {
        (sample.name, frozenset({*sample.labels.items(), ("instance", "relay-1")})): always(sample.value)
        for family in text_string_to_metric_families(exposition("relay").decode())
        for sample in family.samples
    }
    others = {key: value for key, value in HEALTHY.items() if ("role", "relay") not in key[1]}

    assert firing(others | shown) == {}
    assert firing(others) == {"CustsvcRoleMissing": [{"role": "relay"}]}
