#!/usr/bin/env bash
# Every check of the project, each run even if one before it failed. Arguments go to pytest.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash Testing/setup.sh --dev
BIN=${CARDIAC_VENV:-.venv}/bin

failed=()
# step NAME COMMAND...
step() {
  local name=$1
  shift
  echo "== $name"
  "$@" || failed+=("$name")
}

step "ruff check" "$BIN/ruff" check
step "ruff format" "$BIN/ruff" format --check
step "mypy" "$BIN/mypy"
step "codespell" "$BIN/codespell"
# Last, so that its closing line ends the output.
step "pytest" "$BIN/python" -m pytest -q "$@"

if [ ${#failed[@]} -gt 0 ]; then
  printf -v names ', %s' "${failed[@]}"
  echo "run.sh: not all is well: ${names:2}"
  exit 1
fi
echo "run.sh: all is well"
