#!/usr/bin/env bash
# Build the source archive and the wheel into dist/, and check that an index accepts them and that the wheel
# installs without any extra, in a new environment.
#
# Usage: setup/dist.sh [--release]
#   setup/dist.sh             what CI does
#   setup/dist.sh --release   also refuse what must not be published: uncommitted changes, a missing tag of this
#                             version, a missing section in CHANGELOG.md, project URLs that lead nowhere

set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

release=false
case "${1:-}" in
  -h | --help) show_help && exit ;;
  --release) release=true ;;
  ?*) die "unknown option $1" "setup/dist.sh --help" ;;
esac
version="$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' custsvc/__init__.py)"

check_release() {
  [[ -z "$(git status --porcelain)" ]] || die "there are uncommitted changes" "git status"
  [[ "$(git describe --exact-match --tags 2>/dev/null)" == "v$version" ]] ||
    die "this commit has no tag v$version" "git tag -s v$version"
  grep -qE "^## \[${version//./\\.}\] - [0-9]{4}-[0-9]{2}-[0-9]{2}$" CHANGELOG.md ||
    die "CHANGELOG.md has no section of $version with its date" "move what is under [Unreleased]"
  if grep -qE '^(Source|Homepage|Changelog|Documentation|Issues) = "https://[^/"]*\.example[/"]' pyproject.toml; then
    die "the project URLs in pyproject.toml lead nowhere" "name the repository in [project.urls]"
  fi
}
if [[ "$release" == true ]]; then check_release; fi

ensure_venv test
tools="$(mktemp -d)"
trap 'rm -rf -- "$tools"' EXIT
python="$(_find_python)"
say "installing the tools"
"$python" -m venv "$tools/venv"
"$tools/venv/bin/python" -m pip install --quiet --disable-pip-version-check build twine
rm -rf -- dist
# The wheel is built from the archive, to prove that the archive has all files of a build.
"$tools/venv/bin/python" -m build --outdir dist . >"$tools/build.log" 2>&1 ||
  { tail -n 30 "$tools/build.log" >&2 && die "the build failed"; }
"$tools/venv/bin/python" -m twine check --strict dist/* >&2

say "installing the wheel alone"
"$python" -m venv "$tools/alone"
"$tools/alone/bin/python" -m pip install --quiet --disable-pip-version-check "dist/custsvc-$version-py3-none-any.whl"
"$tools/alone/bin/python" -m pip check >&2
cd -- "$tools"
[[ "$("$tools/alone/bin/custsvc" --version)" == "custsvc $version" ]] || die "the wheel is not version $version"
"$tools/alone/bin/custsvc" schema events >/dev/null
cd -- "$ROOT"
say "built and checked: $(cd dist && echo *)"
