#!/usr/bin/env bash
# Stop what setup/startup.sh started. The data stays, in Docker's volumes.
#
# Usage: setup/shutdown.sh [OPTIONS OF `docker compose down`]
#   setup/shutdown.sh --volumes       remove all data too

set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

case "${1:-}" in
  -h | --help) show_help && exit ;;
esac
need_compose
# Compose asks for every variable of the file, even to stop.
if ! grep -qsE '^POSTGRES_PASSWORD=.' .env; then export POSTGRES_PASSWORD="${POSTGRES_PASSWORD:-unused}"; fi
docker compose down "$@"
