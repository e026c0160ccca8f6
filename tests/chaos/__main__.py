"""Runs X1 and prints its report: `python -m tests.chaos --events 20000 --seed 7`. See setup/chaos.sh."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.nemesis import plan
from tests.chaos.x1 import Report, Run, Size


def main() -> int:
    given = _arguments()
    size = Size(given.events, given.customers, given.kills, given.restarts, given.cuts, given.stops)
    if given.schedule:
        for fault in plan(
            given.seed, kills=size.kills, restarts=size.restarts, cuts=size.cuts, stops=size.stops
        ):
            print(fault)
        return 0
    backends = ["postgres", "mongo"] if given.direction == "both" else [given.direction]
    reports = [_run(backend, given.seed, size, given.keep) for backend in backends]
    text = "\n".join(map(markdown, reports))
    print(text)
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "x1.json").write_text(json.dumps([each.data() for each in reports], indent=2) + "\n")
        (given.out / "x1.md").write_text(text + "\n")
    return 7 if any(each.problems for each in reports) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="setup/chaos.sh x1", description="Everything at once, then a verdict."
    )
    parser.add_argument(
        "--direction", choices=["postgres", "mongo", "both"], default="both", help="system of record"
    )
    parser.add_argument(
        "--seed", type=int, default=int(time.time()) % 100_000, help="the same seed, the same accidents"
    )
    for name, default in dataclasses.asdict(Size()).items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default:,}")
    parser.add_argument("--out", type=Path, help="folder for x1.json and x1.md")
    parser.add_argument("--keep", action="store_true", help="keep data and logs")
    parser.add_argument("--schedule", action="store_true", help="only print the accidents of this seed")
    return parser.parse_args()


def _run(backend: str, seed: int, size: Size, keep: bool) -> Report:
    folder = Path(tempfile.mkdtemp(prefix="custsvc-chaos-"))
    print(f"seed {seed}, system of record {backend}, data and logs in {folder}", file=sys.stderr)
    try:
        report = Run(folder, backend, seed, size, lambda line: print(line, file=sys.stderr)).go()
    except BaseException:
        print(f"the run did not end; its logs are in {folder}", file=sys.stderr)
        raise
    if keep or report.problems:
        print(f"data and logs are kept in {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return report


def markdown(report: Report) -> str:
    """The report for people."""
    size = report.size
    verdict = (
        "nothing lost, doubled or out of order" if not report.problems else f"{len(report.problems)} PROBLEMS"
    )
    states = ", ".join(f"{count:,} {state}" for state, count in report.mail_states.items()) or "none"
    memory = ", ".join(f"{name} {mb}" for name, mb in report.rss_mb.items())
    lines = [
        f"### {report.direction}, {size.events:,} events: {verdict}",
        "",
        "| | |",
        "|---|---|",
        f"| run | {report.started}, seed {report.seed}; {report.machine} |",
        f"| accidents | {len(report.faults)}: {size.kills} × kill -9 of roles, each server "
        f"{size.restarts} ×, {size.cuts} network faults, {size.stops} × SIGSTOP |",
        f"| written | {report.acknowledged:,} acknowledged in {report.write_seconds:,.0f} s, "
        f"{report.unknown:,} without an answer; {report.requests:,} more over HTTP |",
        f"| on the topic | {report.records:,} records of {report.customers:,} customers, "
        f"{report.repeats:,} repeats |",
        f"| copy identical | {report.drain_seconds:.1f} s after the last accident |",
        f"| mails | {report.mails:,} accepted; {report.calls:,} calls of a webhook; ledger: {states} |",
        f"| most memory (MB) | {memory} |",
        "",
    ]
    lines += [f"- {each}" for each in report.problems[:50]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
