#!/usr/bin/env bash
# Pin every image of docker-compose.yml and docker/Dockerfile to the current digest of its tag, so that a moved
# tag changes nothing here. Needs Docker with buildx, and the network.
#
# Usage: setup/pin-images.sh [--check]
#   setup/pin-images.sh            write the digests: image:tag@sha256:…; the tags stay readable
#   setup/pin-images.sh --check    change nothing; exit 1 if an image has no digest, or its tag has moved
# To use a newer version: change the tag, remove its @sha256:…, and run this.

set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

check=false
case "${1:-}" in
  -h | --help) show_help && exit ;;
  --check) check=true ;;
  ?*) die "unknown option $1" "setup/pin-images.sh --help" ;;
esac
need_docker
docker buildx version >/dev/null 2>&1 ||
  die "Docker has no buildx plugin" "install docker-buildx-plugin (docs.docker.com/engine/install)"

# Published images only; images built here are in no registry.
images() {
  sed -nE 's/^ *image: *"?([^"[:space:]#]+)"?.*/\1/p' docker-compose.yml | grep -v '^custsvc:'
  sed -nE 's/^ARG PYTHON_IMAGE=([^[:space:]]+).*/\1/p' docker/Dockerfile
}

failed=()
for image in $(images | sort -u); do
  tag="${image%@*}"
  digest="$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$tag")" ||
    die "there is no image $tag, or its registry does not answer" "correct its tag, or try again"
  [[ "$digest" =~ ^sha256:[0-9a-f]{64}$ ]] || die "the registry reports no digest of $tag: $digest"
  if [[ "$image" == "$tag@$digest" ]]; then
    say "$tag is pinned"
  elif [[ "$check" == true ]]; then
    failed+=("$image is not $tag@$digest")
  else
    # The dot is the only character of an image's name that is special to sed.
    sed -i "s#${image//./\\.}\\([\"[:space:]]\\|\$\\)#$tag@$digest\\1#" docker-compose.yml docker/Dockerfile
    say "pinned $tag to $digest"
  fi
done
if ((${#failed[@]})); then
  printf 'not pinned: %s\n' "${failed[@]}" >&2
  die "images are not pinned" "setup/pin-images.sh"
fi
