#!/usr/bin/env bash
# Pin every image of docker-compose.yml and docker/Dockerfile to the digest that its tag has now, so that a
# tag which somebody moves changes nothing here. Needs Docker with buildx, and the network.
#
# Usage: setup/pin-images.sh [--check]
#   setup/pin-images.sh            write the digests: image:tag@sha256:…; the tags stay readable
#   setup/pin-images.sh --check    change nothing; exit 1 where an image has no digest, or its tag has moved
# To take a newer version: change the tag, drop its @sha256:…, and run this.

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

# What others publish; what is built here has no registry to ask.
images() {
  sed -nE 's/^ *image: *"?([^"[:space:]#]+)"?.*/\1/p' docker-compose.yml | grep -v '^custsvc:'
  sed -nE 's/^ARG PYTHON_IMAGE=([^[:space:]]+).*/\1/p' docker/Dockerfile
}

failed=()
for image in $(images | sort -u); do
  tag="${image%@*}"
  digest="$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$tag")" ||
    die "there is no image $tag, or its registry does not answer" "correct its tag, or try again"
  [[ "$digest" =~ ^sha256:[0-9a-f]{64}$ ]] || die "the registry tells no digest of $tag: $digest"
  if [[ "$image" == "$tag@$digest" ]]; then
    say "$tag is pinned"
  elif [[ "$check" == true ]]; then
    failed+=("$image is not $tag@$digest")
  else
    # An image's name holds no character that means something to sed but the dot.
    sed -i "s#${image//./\\.}\\([\"[:space:]]\\|\$\\)#$tag@$digest\\1#" docker-compose.yml docker/Dockerfile
    say "pinned $tag to $digest"
  fi
done
if ((${#failed[@]})); then
  printf 'not pinned: %s\n' "${failed[@]}" >&2
  die "images are not pinned" "setup/pin-images.sh"
fi
