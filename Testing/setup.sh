#!/usr/bin/env bash
# Makes the Python environment of this checkout in .venv, or in the folder CARDIAC_VENV, seen from the checkout.
#
#   bash Testing/setup.sh        installs the package as its users get it
#   bash Testing/setup.sh --dev  links it to these sources, and adds the tools that Testing/run.sh needs
#
# Running it again is quick: dependencies are looked at only when pyproject.toml or this file has changed.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
VENV=${CARDIAC_VENV:-.venv}
PYTHON=${PYTHON:-python3}
STAMP=$VENV/.cardiac-setup

# Pinned, and installed before the rest: left to the dependencies, pip would take the newest build there is,
# with gigabytes of GPU libraries.
TORCH=torch==2.13.0

# Packages of Debian that the tests need beyond those found here; each is installed with --dev if dpkg lacks it.
# All are for the stand-in of Slicer: what Qt and VTK draw with, off screen. libglib2.0-bin is there for the library that
# it brings along, whose own name differs between releases.
DEV_SYSTEM_PACKAGES=(libegl1 libgl1 libxkbcommon0 libdbus-1-3 libfontconfig1 libglib2.0-bin fonts-dejavu-core)

say() { echo "setup: $*"; }

fail() {
  echo "setup: $*" >&2
  exit 1
}

# apt_install PACKAGE...
apt_install() {
  local as_root=()
  command -v apt-get >/dev/null || fail "$* must be installed first, and there is no apt-get here; install it by hand."
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "$* must be installed first; as root, run: apt-get install $*"
    as_root=(sudo)
  fi
  say "installing $* with apt-get"
  "${as_root[@]}" apt-get update -qq ||
    say "apt-get could not refresh its lists; going on with those it has" >&2
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >/dev/null ||
    fail "apt-get could not install $*; the lines above say why."
}

install_system_packages() {
  local name missing=()
  for name in "${DEV_SYSTEM_PACKAGES[@]}"; do
    dpkg -s "$name" >/dev/null 2>&1 || missing+=("$name")
  done
  [ ${#missing[@]} -eq 0 ] || apt_install "${missing[@]}"
}

# Debian's Python comes without ensurepip until python3-venv is there, and then makes environments without pip.
can_make_venv() { "$PYTHON" -c "import venv, ensurepip" >/dev/null 2>&1; }

make_venv() {
  "$VENV/bin/python" -m pip --version >/dev/null 2>&1 && return
  can_make_venv || apt_install python3 python3-venv
  can_make_venv || fail "$PYTHON still cannot make an environment; set PYTHON to another Python, 3.10 or newer."
  "$PYTHON" -c "import sys; sys.exit(sys.version_info < (3, 10))" ||
    fail "$PYTHON is older than 3.10; set PYTHON to a newer one, as in: PYTHON=python3.11 bash Testing/setup.sh"
  say "making the environment $VENV"
  "$PYTHON" -m venv "$VENV" || fail "the environment $VENV could not be made; the lines above say why."
}

# pip_install WHAT ARGUMENT...: silent but for errors.
pip_install() {
  local what=$1
  shift
  say "installing $what"
  "$VENV/bin/python" -m pip install -qq --disable-pip-version-check --no-input "$@" ||
    fail "pip could not install $what; the lines above say why (no network and a full disk are the usual causes)."
}

install_all() {
  rm -f "$STAMP"
  # A build for a GPU that someone chose stays.
  "$VENV/bin/python" -c "import importlib.metadata as m; m.version('torch')" 2>/dev/null ||
    pip_install "$TORCH" "$TORCH"
  if [ "$MODE" = dev ]; then
    pip_install "the package, linked to its sources, and the tools of its tests" -e ".[dev]"
  else
    pip_install "the package and its dependencies" .
  fi
}

case "${1:-}" in
  "") MODE=plain ;;
  --dev) MODE=dev ;;
  *) fail "there is no option $1; use --dev or nothing." ;;
esac

[ "$MODE" = plain ] || install_system_packages
make_venv
STATE="$MODE $PWD $(cat pyproject.toml Testing/setup.sh | sha256sum)"
if [ "$STATE" != "$(cat "$STAMP" 2>/dev/null)" ]; then
  install_all
elif [ "$MODE" = plain ]; then
  # The sources may have changed under an unchanged version number.
  pip_install "the package anew" --no-deps --force-reinstall .
fi
VERSION=$("$VENV/bin/python" -I -c "import cardiac_diffusion_aug as c; print(c.__version__)") ||
  fail "the package was installed but cannot be imported; delete $VENV and run this again."
echo "$STATE" >"$STAMP"
say "cardiac-diffusion-aug $VERSION is ready in $VENV"
