#!/usr/bin/env bash
# Write the list of all Python packages in the image, with versions and hashes, as CycloneDX JSON (an SBOM), from
# docker/requirements.lock into dist/. Needs no Docker; the network, for its tool. setup/build.sh with PLATFORMS adds
# another one to the image itself, which also lists the packages of the base image.
#
# Usage: setup/sbom.sh [FILE]     default: dist/custsvc-VERSION.cdx.json

set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

case "${1:-}" in
  -h | --help) show_help && exit ;;
  -*) die "unknown option $1" "setup/sbom.sh --help" ;;
esac
version="$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' custsvc/__init__.py)"
file="${1:-dist/custsvc-$version.cdx.json}"

tools="$(mktemp -d)"
trap 'rm -rf -- "$tools"' EXIT
say "installing the tool"
"$(_find_python)" -m venv "$tools/venv"
"$tools/venv/bin/python" -m pip install --quiet --disable-pip-version-check 'cyclonedx-bom>=7,<8'
mkdir -p -- "$(dirname -- "$file")"
# The tool warns that it does not know which package needs which: a lock file does not say it.
"$tools/venv/bin/cyclonedx-py" requirements docker/requirements.lock --pyproject pyproject.toml \
  --output-reproducible --of JSON -o "$tools/sbom.json" 2>"$tools/warnings" || die "$(tail -n 1 "$tools/warnings")"
"$tools/venv/bin/python" - "$tools/sbom.json" "$file" "$version" <<'PYTHON'
import json
import sys

made, file, version = sys.argv[1:]
with open(made, encoding="utf-8") as opened:
    bom = json.load(opened)
bom["metadata"]["component"] |= {"version": version, "purl": f"pkg:pypi/custsvc@{version}"}
with open(file, "w", encoding="utf-8") as opened:
    json.dump(bom, opened, indent=2)
PYTHON
say "wrote $file: $(grep -c '"purl": "pkg:pypi/' "$file") packages, custsvc included"
