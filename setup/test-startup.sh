#!/usr/bin/env bash
# Start servers for the tests and leave them running, so that each run of pytest starts faster.
# Prints the exports for the tests on stdout, all else on stderr.
#
# Usage: eval "$(setup/test-startup.sh)"
# Stop them with: eval "$(setup/test-shutdown.sh)". Their data is in .custsvc-test.

set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

case "${1:-}" in
  -h | --help) show_help && exit ;;
  ?*) die "unknown option $1" "setup/test-startup.sh --help" ;;
esac
ensure_venv test
ensure_libcurl

# Ignore addresses of other servers: tests create and drop databases.
unset CUSTSVC_POSTGRES_URL CUSTSVC_MONGO_URL CUSTSVC_KAFKA CUSTSVC_SMTP_URL
exports() {
  "$VENV_PYTHON" -m custsvc env --data-dir .custsvc-test 2>/dev/null |
    sed -nE 's/^export CUSTSVC_(POSTGRES_URL|MONGO_URL|KAFKA|SMTP_URL)=/export CUSTSVC_TEST_\1=/p'
}
if [[ "$(exports | wc -l)" != 4 ]]; then
  "$VENV_PYTHON" -m custsvc up --servers-only --detach --data-dir .custsvc-test >&2
fi
exports
