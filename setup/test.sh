#!/usr/bin/env bash
# Check everything: lint, types, and all tests on real servers, from a bare checkout.
# Creates .venv if it does not exist; the tests start and stop their own servers.
#
# Usage: setup/test.sh [--fast | --long | --lint] [ARGUMENTS OF pytest]
#   setup/test.sh                          all but the long runs: 11 to 16 minutes on two processors
#   setup/test.sh --fast                   while you work: unit, contract and API tests, no lint; three minutes
#   setup/test.sh tests/unit -k config     some of them
#   setup/test.sh --long                   only the long runs: minutes to hours
#   setup/test.sh --lint                   lint and types, no test
# In CI (CI=true) a missing server is a failure, not a skip.

set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

# Tests mostly wait, so more of them run than there are processors; the tests of a module run together and share
# its servers.
SIDE_BY_SIDE=(--numprocesses 6 --dist loadscope --no-loadscope-reorder)

marks="not long"
with_lint=true
with_tests=true
with_browser=true
case "${1:-}" in
  -h | --help) show_help && exit ;;
  --fast)
    marks="not long and not slow"
    with_lint=false
    with_browser=false
    shift
    set -- tests/unit tests/contract tests/api "${SIDE_BY_SIDE[@]}" "$@"
    ;;
  --long)
    marks=long
    shift
    ;;
  --lint)
    with_tests=false
    shift
    ;;
esac
if [[ "${CI:-}" == true ]]; then export CUSTSVC_TEST_REQUIRE=1; fi
# Compile once, since the tests start custsvc hundreds of times.
unset PYTHONDONTWRITEBYTECODE

# The tests of the pages need a browser; without one they are skipped with a warning. The shell without a window is
# taken where it can be had, since it does the same for half of the processor time.
ensure_chromium() {
  local each
  if [[ ! -d tests/web ]] || command -v chromium-headless-shell >/dev/null; then return; fi
  if can_apt && apt_install chromium-headless-shell; then return; fi
  for each in chromium chromium-browser google-chrome; do
    if command -v "$each" >/dev/null; then return; fi
  done
  if can_apt && apt_install chromium; then return; fi
  say ""
  say "  NOTE: there is no Chromium here, so the tests of the pages cannot run (apt-get install chromium)."
  say ""
}

# Some tests need PgBouncer; without it they are skipped with a warning.
ensure_pgbouncer() {
  if command -v pgbouncer >/dev/null || [[ -x /usr/sbin/pgbouncer ]]; then return; fi
  if can_apt && apt_install pgbouncer; then return; fi
  say ""
  say "  NOTE: there is no PgBouncer here, so its tests cannot run (apt-get install pgbouncer)."
  say ""
}

failed=()
check() {
  say "== $*"
  "$VENV_PYTHON" -m "$@" >&2 || failed+=("$1${2:+ $2}")
}

ensure_venv test
if [[ "$with_lint" == true ]]; then
  # Compile the tests meanwhile, once: in a new checkout each process of a parallel run would do it for itself.
  if [[ "$with_tests" == true ]] && (($# == 0)); then
    "$VENV_PYTHON" -m pytest --collect-only --quiet -p no:cacheprovider >/dev/null 2>&1 &
  fi
  check ruff check .
  check ruff format --check .
  check mypy
  wait
fi
if [[ "$with_tests" == true ]]; then
  ensure_libcurl
  if [[ "$with_browser" == true ]]; then ensure_chromium; fi
  ensure_pgbouncer
  say "== pytest"
  if (($# == 0)) && [[ "$marks" != long ]]; then set -- "${SIDE_BY_SIDE[@]}"; fi
  "$VENV_PYTHON" -m pytest -m "$marks" "$@" || failed+=("pytest ($?)")
fi
if ((${#failed[@]})); then
  printf 'failed: %s\n' "${failed[@]}" >&2
  exit 1
fi
