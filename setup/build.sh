#!/usr/bin/env bash
# Build the Docker image of custsvc: custsvc:VERSION and custsvc:latest.
#
# Usage: setup/build.sh [OPTIONS OF `docker build`]
#   setup/build.sh --pull --no-cache       with the newest base image
#   IMAGE=registry.example/custsvc setup/build.sh
#   PLATFORMS=linux/amd64,linux/arm64 IMAGE=registry.example/custsvc setup/build.sh --push
#                                          for both kinds of processor, with an SBOM and its provenance; needs buildx

set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

case "${1:-}" in
  -h | --help) show_help && exit ;;
esac
need_docker
image="${IMAGE:-custsvc}"
version="$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' custsvc/__init__.py)"
revision="$(git rev-parse HEAD 2>/dev/null || echo unknown)"
build=(docker build)
if [[ -n "${PLATFORMS:-}" ]]; then
  docker buildx version >/dev/null 2>&1 ||
    die "Docker has no buildx plugin" "install docker-buildx-plugin (docs.docker.com/engine/install)"
  build=(docker buildx build --platform "$PLATFORMS" --sbom=true --provenance=mode=max)
fi
"${build[@]}" -f docker/Dockerfile --build-arg VERSION="$version" --build-arg REVISION="$revision" \
  -t "$image:$version" -t "$image:latest" "$@" .
say "built $image:$version and $image:latest"
