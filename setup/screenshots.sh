#!/usr/bin/env bash
# Take the pictures of the web app anew, into docs/screenshots: made-up customers, a stack that keeps nothing.
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
