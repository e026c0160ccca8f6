#!/usr/bin/env bash
# Write the image's lock files anew (docker/requirements.lock, docker/build.lock): the newest versions that
# pyproject.toml allows, each with the hashes of all its files. Needs the network, and uv, which it installs
# into .venv. No index is written into them: the image takes the packages from the one that pip is set up for.
#
# Usage: setup/lock.sh [--upgrade]
#   setup/lock.sh              what is locked stays, where pyproject.toml still allows it
#   setup/lock.sh --upgrade    all of it anew

set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

upgrade=()
case "${1:-}" in
  -h | --help) show_help && exit ;;
  --upgrade) upgrade=(--upgrade) ;;
  ?*) die "unknown option $1" "setup/lock.sh --help" ;;
esac
ensure_venv local
"$VENV_PYTHON" -c 'import uv' 2>/dev/null || "$VENV_PYTHON" -m pip install --quiet uv

python="$(sed -n 's/^ARG PYTHON_IMAGE=python:\(3\.[0-9]*\).*/\1/p' docker/Dockerfile)"
# lock FILE INPUT [OPTIONS]
lock() {
  local file="$1" input="$2"
  shift 2
  "$VENV_PYTHON" -m uv pip compile "$input" --quiet --generate-hashes --no-header --no-emit-index-url \
    --python-version "$python" --python-platform linux --output-file "$file" \
    ${upgrade[@]+"${upgrade[@]}"} "$@" >/dev/null
  sed -i '1i # Made by setup/lock.sh for docker/Dockerfile. Do not edit.' "$file"
  say "wrote $file: $(grep -c '==' "$file") packages"
}
lock docker/requirements.lock pyproject.toml --extra channels --extra oidc
sed -n '/^\[build-system\]/,/^\[project\]/s/^requires = \["\(.*\)"\]$/\1/p' pyproject.toml |
  lock docker/build.lock -
