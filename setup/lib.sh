# shellcheck shell=bash
# Shared by the scripts in this folder: the path of the checkout, and a virtual environment with custsvc.
# Usage: source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"; ensure_venv local
#
# Sourcing it changes to the top folder of the checkout. PYTHON=/path/to/python chooses the Python of a new
# virtual environment.

ROOT="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." >/dev/null && pwd -P)"
cd -- "$ROOT" || exit
VENV="$ROOT/.venv"
VENV_PYTHON="$VENV/bin/python"

say() { printf '%s\n' "$*" >&2; }

# die MESSAGE [FIX]
die() {
  say "error: $1"
  if [[ -n "${2:-}" ]]; then say "fix: $2"; fi
  exit 1
}

# Print the comment at the top of the running script.
show_help() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }

is_root() { [[ "$(id -u)" == 0 ]]; }

can_apt() { is_root && command -v apt-get >/dev/null; }

# apt_install PACKAGE…
apt_install() {
  say "installing $* (apt-get)"
  # No questions, and no output but errors.
  DEBIAN_FRONTEND=noninteractive apt-get update -qq >/dev/null &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# In CI the scripts install missing packages themselves.
apt_in_ci() { [[ "${CI:-}" == true ]] && can_apt && apt_install "$@"; }

# ensure_venv EXTRA: make sure that .venv exists, works, and has custsvc (editable) with [local] or [test].
ensure_venv() {
  (
    # Two simultaneous scripts must not both make it.
    if command -v flock >/dev/null; then flock 9; fi
    _ensure_venv_itself
    _ensure_installed "$1"
  ) 9<"$ROOT"
}

_is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

_makes_venvs() { _is_new_enough "$1" && "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

# The newest Python first that all packages have wheels for: it takes the least processor time, and of one that is
# newer still some would have to be compiled. One that lacks only its -venv package is better than none.
_find_python() {
  local suits candidate
  for suits in _makes_venvs _is_new_enough; do
    for candidate in ${PYTHON:+"$PYTHON"} python3.14 python3.13 python3.12 python3.11 python3 python; do
      if "$suits" "$candidate"; then
        command -v "$candidate"
        return
      fi
    done
  done
  return 1
}

_ensure_venv_itself() {
  if [[ -e "$VENV" ]]; then
    if _venv_works; then return; fi
    [[ -f "$VENV/pyvenv.cfg" || -z "$(ls -A "$VENV")" ]] ||
      die "$VENV is not a virtual environment" "move it away; this script creates its own there"
    say "the virtual environment $VENV does not work any more (moved, or its Python is gone): making a new one"
    rm -rf -- "$VENV"
  fi
  local python
  python="$(_find_python)" || {
    apt_in_ci python3 python3-venv || true
    python="$(_find_python)" || die "custsvc needs Python 3.11 or later; found: $(python3 --version 2>&1 || true)" \
      "apt-get install python3 python3-venv (Debian 12, Ubuntu 24.04 or later), or set PYTHON=/path/to/python3.12"
  }
  if ! _makes_venvs "$python"; then
    local package
    package="$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    apt_in_ci "$package" || apt_in_ci python3-venv ||
      die "$python cannot make virtual environments (ensurepip is missing)" "apt-get install python3-venv (or $package)"
  fi
  say "making the virtual environment .venv ($("$python" --version))"
  "$python" -m venv "$VENV" >&2 || {
    rm -rf -- "$VENV"
    die "the virtual environment could not be created with $python" "apt-get install python3-venv, and see the message above"
  }
}

_venv_works() {
  _is_new_enough "$VENV_PYTHON" || return 1
  # Its scripts contain the path of the folder in which it was created.
  grep -qsF "$VENV" "$VENV/bin/activate" || return 1
  "$VENV_PYTHON" -c 'import pip' 2>/dev/null || "$VENV_PYTHON" -m ensurepip >/dev/null 2>&1
}

# _ensure_installed EXTRA. The stamp records the installed extra and its pyproject.toml; [test] includes [local].
_ensure_installed() {
  local extra="$1" stamp="$VENV/.custsvc-installed" state known
  state="$(cksum <pyproject.toml) $("$VENV_PYTHON" --version)"
  known="$(cat "$stamp" 2>/dev/null || true)"
  if [[ -x "$VENV/bin/custsvc" && ("$known" == "$extra $state" || "$known" == "test $state") ]]; then return; fi
  # A start must not remove an installed [test].
  if [[ "$known" == "test "* ]]; then extra="test"; fi
  say "installing custsvc[$extra] into .venv (the first time some 130 MB to download, a minute or two)"
  rm -f -- "$stamp"
  local log="$VENV/pip.log"
  if ! "$VENV_PYTHON" -m pip install --disable-pip-version-check --progress-bar off --editable ".[$extra]" 2>&1 |
    tee "$log" |
    awk '/^ *Downloading .*MB\)/ { print "  " $2, $3, $4; fflush() } /^Installing collected/ { print "  installing"; fflush() }' >&2; then
    tail -n 20 "$log" >&2
    die "pip could not install custsvc[$extra] (all of its output: $log)" "check the network and run this again"
  fi
  printf '%s\n' "$extra $state" >"$stamp"
}

# The embedded MongoDB needs libcurl, which slim containers lack.
ensure_libcurl() {
  if "$VENV_PYTHON" -c 'import ctypes; ctypes.CDLL("libcurl.so.4")' 2>/dev/null; then return; fi
  if [[ "$(uname -s)" != Linux ]]; then return; fi
  apt_in_ci libcurl4 || apt_in_ci libcurl4t64 ||
    say "note: libcurl.so.4 is missing, which the embedded MongoDB needs: apt-get install libcurl4 (Debian 13: libcurl4t64)"
}

# Check that Docker and its engine are there.
need_docker() {
  command -v docker >/dev/null ||
    die "Docker is not installed" "install Docker Engine (docs.docker.com/engine/install), or run without Docker: setup/dev-startup.sh"
  docker info >/dev/null 2>&1 ||
    die "the Docker engine does not answer" "start it (systemctl start docker), check that you may use it (docker info), or run without Docker: setup/dev-startup.sh"
}

need_compose() {
  need_docker
  docker compose version >/dev/null 2>&1 ||
    die "Docker has no Compose plugin" "install docker-compose-plugin (docs.docker.com/compose/install)"
}
