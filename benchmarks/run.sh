#!/usr/bin/env bash
# Measure custsvc on this machine, on servers of the benchmark's own, which are gone afterwards.
#
# Usage: benchmarks/run.sh api [--threads N] [--quick] [--save FOLDER]
#        benchmarks/run.sh pipeline [--quick] [--save FOLDER]
#        benchmarks/run.sh pipeline --peers [--quick] [--only drain|latency|apply] [--rounds N] [--save FOLDER]
#        benchmarks/run.sh capacity postgres|mongo [CUSTOMERS]
#        benchmarks/run.sh shards postgres|mongo [EVENTS [ROUNDS]]
#        benchmarks/run.sh growth postgres|mongo [SIZES] [--quick] [--folder FOLDER] [--save FOLDER]
#   api       requests a second beside Django REST framework, FastAPI and Eve on the same customers
#   pipeline  seed, relay, replicate and latency beside the barest loops that do the same;
#             with --peers relay and replicate beside Debezium and the MongoDB connector on Kafka Connect
#   capacity  bytes of customers, events and mails, for 500,000 customers if no number is given
#   shards    one relay beside two that share the work, by turns
#   growth    what a request, an event and an apply cost with 50,000 customers and with 5,000,000 (or SIZES), by
#             turns; makes the databases in about an hour, in 25 GB, and keeps them in --folder for the next run
# --quick takes at most five minutes, with --peers about ten. Figures and chart go to FOLDER, docs/benchmarks if
# none is given. --peers fetches 77 MB of jars once; three rounds take about an hour.

set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/../setup/lib.sh"

part="${1:-}"
case "$part" in
  -h | --help) show_help && exit ;;
  api | pipeline | capacity | shards | growth) shift ;;
  *) die "say what to measure: api, pipeline, capacity, shards or growth" "benchmarks/run.sh --help" ;;
esac
ensure_venv local
case "$part" in capacity | shards | growth) exec "$VENV_PYTHON" "benchmarks/$part.py" "$@" ;; esac
ensure_libcurl
if [[ "$part" == api ]]; then
  command -v wrk >/dev/null || { is_root && apt_install wrk; } || die "wrk is not installed" "apt-get install wrk"
  for peer in drf fastapi eve; do
    venv="benchmarks/peers/$peer/.venv"
    if ! cmp -s "$venv/installed" "benchmarks/peers/$peer/requirements.txt"; then
      say "making the virtual environment of $peer"
      rm -rf -- "$venv"
      "$VENV_PYTHON" -m venv "$venv"
      "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "benchmarks/peers/$peer/requirements.txt"
      cp "benchmarks/peers/$peer/requirements.txt" "$venv/installed"
    fi
  done
fi
exec "$VENV_PYTHON" benchmarks/run.py "$part" "$@"
