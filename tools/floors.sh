#!/usr/bin/env bash
# Proves the lower bounds of pyproject.toml: the oldest allowed versions together, in their own environment.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v uv >/dev/null || { echo "floors: needs uv (pip install uv)" >&2; exit 1; }
venv=.venv-floors
[ -x $venv/bin/python ] || uv venv -q --python 3.12 $venv
uv pip install -q --python $venv/bin/python --resolution lowest-direct -e '.[dev]'
$venv/bin/python -m pytest -q "$@"
