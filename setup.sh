#!/usr/bin/env bash
# Creates the environment: setup.sh VENV. Finds Python 3.10, checks the compiler, installs, builds the native extension.
set -euo pipefail
cd "$(dirname "$0")"
venv=${1:-.venv}

fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }
is_310() { "$1" -c 'import sys, venv; sys.exit(sys.version_info[:2] != (3, 10))' >/dev/null 2>&1; }

# A pyenv shim named python3.10 may exist and still fail, so every candidate is run before it is believed.
find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.10 "$HOME"/.pyenv/versions/3.10*/bin/python; do
        if [ -n "$candidate" ] && is_310 "$candidate"; then echo "$candidate"; return; fi
    done
    if command -v uv >/dev/null 2>&1 && uv python install 3.10 >&2; then
        candidate=$(uv python find 3.10 2>/dev/null || true)
        if [ -n "$candidate" ] && is_310 "$candidate"; then echo "$candidate"; return; fi
    fi
    return 1
}

command -v "${CXX:-c++}" >/dev/null 2>&1 || command -v g++ >/dev/null 2>&1 ||
    fail "no C++ compiler found; install one (Debian: apt-get install g++) or set CXX to its path."
[ -z "${PYTHON:-}" ] || is_310 "$PYTHON" ||
    fail "PYTHON=$PYTHON is not a working Python 3.10; point it at one, or unset it to search the usual places."

if [ ! -x "$venv/bin/python" ] || ! is_310 "$venv/bin/python"; then
    python=$(find_python) ||
        fail "no Python 3.10 found; FastDeploy and fast-tokenizer have no wheels for later ones. Install it (for example 'uv python install 3.10' or 'pyenv install 3.10') or set PYTHON to its path."
    echo "setup: creating $venv with $python"
    "$python" -m venv --clear "$venv"
fi
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check uv
export VIRTUAL_ENV="$PWD/$venv"
case "$venv" in /*) export VIRTUAL_ENV="$venv" ;; esac
"$venv/bin/uv" pip install --quiet --constraint constraints.txt --editable '.[serve,train,dev]'
echo "setup: done"
