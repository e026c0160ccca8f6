#!/usr/bin/env bash
# Stop the servers of setup/test-startup.sh and remove their data (.custsvc-test).
# Prints the commands that unset the exports.
#
# Usage: eval "$(setup/test-shutdown.sh)"

set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

case "${1:-}" in
  -h | --help) show_help && exit ;;
  ?*) die "unknown option $1" "setup/test-shutdown.sh --help" ;;
esac
if [[ -x "$VENV_PYTHON" && -d .custsvc-test ]]; then
  "$VENV_PYTHON" -m custsvc down --data-dir .custsvc-test >&2
  rm -rf -- .custsvc-test
fi
echo "unset CUSTSVC_TEST_POSTGRES_URL CUSTSVC_TEST_MONGO_URL CUSTSVC_TEST_KAFKA CUSTSVC_TEST_SMTP_URL"
