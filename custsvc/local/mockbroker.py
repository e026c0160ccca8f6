"""The stand-in for Kafka if no broker is available: librdkafka's mock broker, in memory.

Run as `python -m custsvc.local.mockbroker --address-file FILE`; it writes its address there. It keeps few
records, loses all of them when it ends, and creates topics on first use. Good only for trying things out.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

WARNING = (
    "this is an in-memory stand-in for Kafka: it keeps little and forgets all when it stops, and anybody "
)
WARNING += "on this machine can read it"


def main(argv: Sequence[str] | None = None) -> None:
    from confluent_kafka import Producer

    parser = argparse.ArgumentParser(description="An in-memory stand-in for Kafka.")
    parser.add_argument("--address-file", type=Path, required=True)
    path: Path = parser.parse_args(argv).address_file

    stopped = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stopped.set())
    print(f"warning: {WARNING}", file=sys.stderr, flush=True)  # noqa: T201 - its log
    cluster = Producer({"bootstrap.servers": "127.0.0.1", "test.mock.num.brokers": 1})
    (broker,) = cluster.list_topics(timeout=30).brokers.values()
    new = path.with_suffix(".new")
    new.write_text(f"{broker.host}:{broker.port}\n", encoding="ascii")
    new.replace(path)
    stopped.wait()
    path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
