#!/usr/bin/env bash
# Take the screenshots of the web app again, into docs/screenshots: made-up customers, on an ephemeral stack.
# Needs Chromium (apt-get install chromium).
#
# Usage: setup/screenshots.sh

set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

case "${1:-}" in
  -h | --help) show_help && exit ;;
  ?*) die "unknown option $1" "setup/screenshots.sh --help" ;;
esac
command -v chromium >/dev/null || die "there is no Chromium" "apt-get install chromium"
ensure_venv test
ensure_libcurl
"$VENV_PYTHON" docs/screenshots.py
