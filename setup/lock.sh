#!/usr/bin/env bash
# Write the lock files of the image (docker/requirements.lock, docker/build.lock) and of developers (setup/dev.lock)
# again: the newest versions that pyproject.toml allows, each with the hashes of all its files. Needs the network,
# and uv, which it installs into .venv. The files name no index: packages come from the one that pip is set up for.
#
# Usage: setup/lock.sh [--upgrade]
#   setup/lock.sh              keeps locked versions that pyproject.toml still allows
#   setup/lock.sh --upgrade    locks the newest version of every package
# To develop with exactly the locked versions:
#   pip install --require-hashes -r setup/dev.lock && pip install --no-deps --no-build-isolation --editable .

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
# lock FILE FOR INPUT [OPTIONS]
lock() {
  local file="$1" for="$2" input="$3"
  shift 3
  "$VENV_PYTHON" -m uv pip compile "$input" --quiet --generate-hashes --no-header --no-emit-index-url \
    --output-file "$file" ${upgrade[@]+"${upgrade[@]}"} "$@" >/dev/null
  sed -i "1i # Made by setup/lock.sh for $for. Do not edit." "$file"
  say "wrote $file: $(grep -c '==' "$file") packages"
}
image=(--python-version "$python" --python-platform linux)
lock docker/requirements.lock docker/Dockerfile pyproject.toml "${image[@]}" --extra channels --extra oidc --extra otel --extra registry --extra xlsx
# One lock serves both kinds of processor: they must not need different packages.
other="$(mktemp)"
trap 'rm -f -- "$other"' EXIT
cp docker/requirements.lock "$other"
"$VENV_PYTHON" -m uv pip compile pyproject.toml --quiet --generate-hashes --no-header --no-emit-index-url \
  --python-version "$python" --python-platform aarch64-unknown-linux-gnu --output-file "$other" \
  --extra channels --extra oidc --extra otel --extra registry --extra xlsx >/dev/null
diff <(grep '==' docker/requirements.lock) <(grep '==' "$other") >&2 ||
  die "the image needs other packages on ARM64 than on x86-64 (above)" "add them to both, by a marker"
sed -n '/^\[build-system\]/,/^\[project\]/s/^requires = \["\(.*\)"\]$/\1/p' pyproject.toml |
  lock docker/build.lock docker/Dockerfile - "${image[@]}"
# For every Python from the oldest on.
lock setup/dev.lock development pyproject.toml --universal --python-version 3.11 --extra test
