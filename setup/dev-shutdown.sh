#!/usr/bin/env bash
# Stop what setup/dev-startup.sh started: all roles, then all servers. Data is kept in .custsvc.
#
# Usage: setup/dev-shutdown.sh [OPTIONS OF `custsvc down`]
#   setup/dev-shutdown.sh --data-dir elsewhere    for a start with this --data-dir

set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

case "${1:-}" in
  -h | --help) show_help && exit ;;
esac
if [[ ! -x "$VENV_PYTHON" ]]; then
  say "nothing runs: there is no .venv here"
  exit
fi
"$VENV_PYTHON" -m custsvc down "$@"
