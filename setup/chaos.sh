#!/usr/bin/env bash
# Break custsvc on purpose, and check that nothing is lost, doubled or out of order.
#
# Usage: setup/chaos.sh x1 [OPTIONS]       everything at once, then a verdict (--help names the options)
#        setup/chaos.sh list               the scenarios there are
#        setup/chaos.sh SCENARIO [ARGUMENTS OF pytest]   one of them, as O6 or R16
# Examples:
#   setup/chaos.sh x1 --events 20000 --direction postgres --seed 7 --out chaos-report
#   setup/chaos.sh x1 --seed 7 --schedule  only print the accidents
#   setup/chaos.sh R16 -x
# x1 exits with 0 if every invariant holds, with 7 if one does not; data and logs are then kept.

set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

case "${1:-}" in
  "" | -h | --help)
    show_help
    exit
    ;;
esac
what="$1"
shift
ensure_venv test
ensure_libcurl
case "$what" in
  x1 | X1) exec "$VENV_PYTHON" -m tests.chaos "$@" ;;
  list) exec "$VENV_PYTHON" -m tests.chaos.scenarios ;;
esac
mapfile -t tests < <("$VENV_PYTHON" -m tests.chaos.scenarios "$what")
((${#tests[@]})) || die "there is no scenario $what" "setup/chaos.sh list"
exec "$VENV_PYTHON" -m pytest -m "long or not long" -v "${tests[@]}" "$@"
