#!/usr/bin/env bash
# Start all of custsvc in Docker (docker-compose.yml) and wait until it is healthy.
# The first run builds the image and writes a new database password to .env.
#
# Usage: setup/startup.sh [OPTIONS OF `docker compose up`]
#   setup/startup.sh --build                    build the image again first
#   setup/startup.sh --scale replicate=4        more copies of a role
# Stop it with setup/shutdown.sh.

set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

case "${1:-}" in
  -h | --help) show_help && exit ;;
esac
need_compose
if [[ -z "${POSTGRES_PASSWORD:-}" ]] && ! grep -qsE '^POSTGRES_PASSWORD=.' .env; then
  if docker volume inspect custsvc_postgres >/dev/null 2>&1; then
    die "PostgreSQL has data (volume custsvc_postgres), but .env lacks its password, POSTGRES_PASSWORD" \
      "put POSTGRES_PASSWORD=… back into .env, or remove all data: setup/shutdown.sh --volumes"
  fi
  (
    umask 077
    printf 'POSTGRES_PASSWORD=%s\n' "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')" >>.env
  )
  say "made a password for PostgreSQL; it is in .env"
fi
docker compose up --detach --wait --wait-timeout 300 "$@" ||
  die "not everything became healthy" "docker compose ps; docker compose logs --tail 50"
docker compose ps
say "The API: http://$(docker compose port serve 8000)/ Mails: http://$(docker compose port mailpit 8025)/"
say "The first API key: docker compose run --rm serve keys create admin --role admin"
