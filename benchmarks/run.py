"""Runs a benchmark on servers of its own, prints a table, and writes figures and chart. See run.sh."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import api
import beside
import chart
import meter
import orjson
from rich.console import Console
from rich.table import Table

from custsvc.bench import pipeline, report
from custsvc.config import BACKENDS, Settings
from custsvc.errors import CustsvcError
from custsvc.local import LocalServers

ROOT = Path(__file__).parents[1]


def main() -> None:
    """The command line of run.sh."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the servers are stopped then, too
    machine = report.facts()
    with tempfile.TemporaryDirectory(prefix="custsvc-bench-") as folder:
        servers = LocalServers(Path(folder), names=["postgres", "mongo", "kafka"], on_progress=_say)
        try:
            env = servers.start()
            settings = Settings(
                postgres_url=env["CUSTSVC_POSTGRES_URL"],
                mongo_url=env["CUSTSVC_MONGO_URL"],
                kafka=env["CUSTSVC_KAFKA"],
                data_dir=Path(folder),
                **({"threads": options.threads} if options.threads else {}),
            )
            found = _measured(settings, options, servers)
        finally:
            servers.stop()
    options.save.mkdir(parents=True, exist_ok=True)
    name = _name(options)
    text = orjson.dumps({"machine": machine, "measures": found}, option=orjson.OPT_INDENT_2)
    (options.save / f"{name}.json").write_bytes(text + b"\n")
    _say(f"figures in {options.save}/{name}.json; " + ", ".join(f"{k} {v}" for k, v in machine.items()))
    if options.failed:
        sys.exit(1)


def _name(options: argparse.Namespace) -> str:
    """The name of the files with the figures."""
    peers = "peers" if options.peers else ""
    return "-".join(filter(None, (options.part, peers, options.backend, options.only)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks/run.sh")
    parser.add_argument("part", choices=["api", "pipeline"])
    parser.add_argument("--quick", action="store_true", help="at most five minutes")
    parser.add_argument(
        "--save", type=Path, default=ROOT / "docs" / "benchmarks", help="folder for the figures"
    )
    parser.add_argument("--backend", choices=BACKENDS, default="", help="api, --peers: only this database")
    parser.add_argument("--threads", type=int, help="api: threads of each of custsvc's two workers")
    parser.add_argument("--peers", action="store_true", help="pipeline: beside Debezium, by turns")
    parser.add_argument(
        "--only", default="", help="pipeline: seed, relay, apply or latency; --peers: drain, latency or apply"
    )
    parser.add_argument("--events", type=int, help="pipeline: how many events")
    parser.add_argument("--rounds", type=int, help="--peers: how often each takes its turn")
    parser.add_argument("--seconds", type=float, help="pipeline: how long latency is measured")
    parser.set_defaults(failed=False)
    options = parser.parse_args()
    if options.peers and (options.part != "pipeline" or options.only not in ("", *beside.STEPS)):
        parser.error(f"--peers: pipeline --peers --only {', '.join(beside.STEPS)}")
    return options


def _measured(settings: Settings, options: argparse.Namespace, servers: LocalServers) -> list[dict[str, Any]]:
    if options.part == "api":
        return _api(settings, options)
    return _beside(settings, options, servers) if options.peers else _pipeline(settings, options)


def _beside(settings: Settings, options: argparse.Namespace, servers: LocalServers) -> list[dict[str, Any]]:
    plan = beside.Plan(50_000, 8, rounds=1) if options.quick else beside.Plan()
    plan = beside.Plan(
        options.events or plan.events,
        options.seconds or plan.seconds,
        plan.rate,
        options.rounds or plan.rounds,
    )
    backends = [each for each in BACKENDS if options.backend in ("", each)]
    run = beside.Run(settings, plan, backends, options.only, _say)
    run.prepare(servers)
    rows: list[dict[str, Any]] = []
    try:
        for row in run.measure():
            rows.append(row)
    except CustsvcError as exc:
        options.failed = True
        _say(f"stopped; the figures until then are kept: {exc}")
    Console(width=160).print(meter.table(rows))
    options.save.mkdir(parents=True, exist_ok=True)
    svg = chart.bars("The pipeline beside Kafka Connect", meter.groups(rows), "median of rounds")
    (options.save / f"{_name(options)}.svg").write_text(svg, encoding="utf-8")
    return rows


def _api(settings: Settings, options: argparse.Namespace) -> list[dict[str, Any]]:
    plan = api.Plan(rounds=2, seconds=2) if options.quick else api.Plan()
    backends = [each for each in BACKENDS if options.backend in ("", each)]
    rows = api.run(settings, plan, backends, _say)
    for backend in backends:
        some = [row for row in rows if row["backend"] == backend]
        _api_table(backend, some)
        groups = [(row["kind"], list(row["rates"].items())) for row in some]
        svg = chart.bars(
            f"API on {backend}, 2 workers on {report.facts()['cores']} cores", groups, "requests/s"
        )
        options.save.mkdir(parents=True, exist_ok=True)
        (options.save / f"api-{backend}.svg").write_text(svg, encoding="utf-8")
    return rows


def _api_table(backend: str, rows: list[dict[str, Any]]) -> None:
    names = list(rows[0]["rates"])
    table = Table(f"on {backend}", *names, "bare")
    for row in rows:
        cells = [f"{row['rates']['custsvc']:,}"]
        cells += [f"{row['rates'][name]:,} ({row['ratios'][name]:g}×)" for name in names[1:]]
        table.add_row(row["kind"], *cells, f"{row['bare']:,}" if row["bare"] else "")
        table.add_row("  µs of processor time", *(f"{row['cpu_us'][name]:,}" for name in names), "")
    Console(width=120).print(table)


def _pipeline(settings: Settings, options: argparse.Namespace) -> list[dict[str, Any]]:
    sizes = pipeline.Sizes(50_000, 8) if options.quick else pipeline.Sizes()
    sizes = pipeline.Sizes(options.events or sizes.events, options.seconds or sizes.seconds, sizes.rate)
    table = Table(*report.COLUMNS)
    measures = []
    for measure in pipeline.run(settings, sizes, only=options.only, say=_say):
        measures.append(measure)
        (row,) = report.as_rows([measure])
        _say(f"  {row['value']:,.0f} {row['unit']}, bare {row['bare'] or 0:,.0f}")
        table.add_row(*("" if row[c] is None else str(row[c]) for c in report.COLUMNS))
    Console(width=120).print(table)
    return report.as_rows(measures)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    main()
