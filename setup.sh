#!/usr/bin/env bash
# Creates an environment: finds a Python, checks the compiler, installs, builds the native extension.
#   setup.sh [VENV]                the reference: Python 3.10 with everything; VENV is .venv unless given
#   setup.sh --next [VENV]         Python 3.12 or later, without FastDeploy and Paddle: what serves and tests there
#   setup.sh [--next] --find       only prints which Python it would take
set -euo pipefail
cd "$(dirname "$0")"

fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }
usable() { "$1" -c 'import sys, venv; sys.exit("%d.%d" % sys.version_info[:2] not in sys.argv[1:])' $versions >/dev/null 2>&1; }

if [ "${1:-}" = --next ]; then
    shift
    versions="3.12 3.13 3.14" wanted="Python 3.12 or later" why="the service without FastDeploy is tested on one"
    variable=NEXT_PYTHON given=${NEXT_PYTHON:-}
    venv=.venv-next constraints=constraints-next.txt extras=serve,openvino,onnxruntime,test
else
    versions="3.10" wanted="Python 3.10" why="FastDeploy and fast-tokenizer have no wheels for later ones"
    variable=PYTHON given=${PYTHON:-}
    venv=.venv constraints=constraints.txt extras=serve,fastdeploy,train,dev
fi

# A pyenv shim named python3.10 may exist and still fail, so every candidate is run before it is believed.
find_python() {
    local version candidate
    for version in $versions; do
        for candidate in "$given" "python$version" "$HOME/.pyenv/versions/$version"*/bin/python; do
            if [ -n "$candidate" ] && usable "$candidate"; then echo "$candidate"; return; fi
        done
    done
    version=${versions%% *}
    if command -v uv >/dev/null 2>&1 && uv python install "$version" >&2; then
        candidate=$(uv python find "$version" 2>/dev/null || true)
        if [ -n "$candidate" ] && usable "$candidate"; then echo "$candidate"; return; fi
    fi
    fail "no $wanted found; $why. Install it (for example 'uv python install $version' or 'pyenv install $version') or set $variable to its path."
}

[ -z "$given" ] || usable "$given" ||
    fail "$variable=$given is not a working $wanted; point it at one, or unset it to search the usual places."
if [ "${1:-}" = --find ]; then find_python; exit; fi
venv=${1:-$venv}

command -v "${CXX:-c++}" >/dev/null 2>&1 || command -v g++ >/dev/null 2>&1 ||
    fail "no C++ compiler found; install one (Debian: apt-get install g++) or set CXX to its path."
if [ ! -x "$venv/bin/python" ] || ! usable "$venv/bin/python"; then
    python=$(find_python)
    echo "setup: creating $venv with $python"
    "$python" -m venv --clear "$venv"
    echo '*' >"$venv/.gitignore"  # git and ruff pass over it, whatever its name
fi
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check uv
export VIRTUAL_ENV="$PWD/$venv"
case "$venv" in /*) export VIRTUAL_ENV="$venv" ;; esac
"$venv/bin/uv" pip install --quiet --constraint "$constraints" --editable ".[$extras]"
echo "setup: done"
