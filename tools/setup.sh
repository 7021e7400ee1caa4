#!/usr/bin/env bash
# Makes $VENV with attnlab in it: `setup.sh user` or `setup.sh dev`. Finds uv or a Python >= 3.12 by itself.
set -euo pipefail
kind="${1:-user}"
venv="${VENV:-.venv}"

good() { "$1" -c 'import sys; raise SystemExit(sys.version_info < (3, 12))' >/dev/null 2>&1; }

find_python() {
  if [ -n "${PYTHON:-}" ]; then
    good "$PYTHON" || { echo "PYTHON=$PYTHON is no Python >= 3.12 (or does not start)." >&2; return 1; }
    echo "$PYTHON"
    return
  fi
  local candidate
  for candidate in python3.12 python3.13 python3.14 python3 python \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[2-9]*/bin/python /opt/homebrew/bin/python3 /usr/local/bin/python3; do
    if good "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

if command -v uv >/dev/null 2>&1; then
  install() { uv pip install -q --python "$venv/bin/python" "$@"; }
  # Without a Python >= 3.12 here, uv may fetch one.
  if [ ! -x "$venv/bin/python" ]; then
    if python=$(find_python); then uv venv -q --python "$python" "$venv"; else uv venv -q --python 3.12 "$venv"; fi
  fi
elif python=$(find_python); then
  install() { "$venv/bin/python" -m pip install -q --disable-pip-version-check "$@"; }
  [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
else
  cat >&2 <<MESSAGE
attnlab needs Python >= 3.12, and there is neither one nor uv here. Any of these gives you one:
  pip install uv                          (then run make again: uv finds or fetches a Python)
  apt install python3.12-venv             (Ubuntu 24.04, Debian 13: python3-venv)
  brew install python@3.12                (macOS)
  pyenv install 3.12                      (pyenv)
or say where it is:  make PYTHON=/path/to/python3.12 ...
MESSAGE
  exit 1
fi

lock=requirements.lock
[ "$kind" = dev ] && lock=requirements-dev.lock
echo "installing attnlab ($kind) at the versions of $lock into $venv ..."
install --require-hashes -r "$lock"
install --no-deps -e .
touch "$venv/.$kind"
[ "$kind" = dev ] && touch "$venv/.user"
exit 0
