#!/usr/bin/env bash
# Start everything on this machine, from a bare checkout, without Docker or root:
# a virtual environment, PostgreSQL, MongoDB, Kafka, a mail catcher, the API and all workers.
#
# Usage: setup/dev-startup.sh [OPTIONS OF `custsvc up`]
#   setup/dev-startup.sh                      http://localhost:8000, with 20 customers the first time
#   setup/dev-startup.sh --port 8080          another port
#   setup/dev-startup.sh --backend mongo      MongoDB as the system of record
# Stop it with setup/dev-shutdown.sh. Data is kept in .custsvc; paths are relative to the checkout.

set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

seed=(--seed 20)
data_dir=()
previous=""
for argument in "$@"; do
  case "$previous $argument" in
    *" -h" | *" --help") show_help && exit ;;
    *" --seed"* | *" --servers-only" | *" --without=serve" | "--without serve") seed=() ;;
    *" --data-dir="*) data_dir=(--data-dir "${argument#--data-dir=}") ;;
    "--data-dir "*) data_dir=(--data-dir "$argument") ;;
  esac
  previous="$argument"
done

ensure_venv local
ensure_libcurl
url="$("$VENV_PYTHON" -m custsvc env ${data_dir[@]+"${data_dir[@]}"} 2>/dev/null |
  sed -n "s/^export CUSTSVC_API_URL=//p" || true)"
if [[ -n "$url" ]]; then
  say "custsvc runs already, at $url; stop it with: setup/dev-shutdown.sh${data_dir[*]:+ ${data_dir[*]}}"
  exit
fi
"$VENV_PYTHON" -m custsvc up --detach ${seed[@]+"${seed[@]}"} "$@"
say "The command is .venv/bin/custsvc. Stop everything: setup/dev-shutdown.sh${data_dir[*]:+ ${data_dir[*]}}"
