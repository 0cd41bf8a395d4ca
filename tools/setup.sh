#!/usr/bin/env bash
# Makes .venv with the locked requirements and the project in editable mode. `make setup` calls it when it is needed.
# Usage: tools/setup.sh REQUIREMENTS_FILE...     PYTHON=... names the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "fleetwatch: $*" >&2; exit 2; }

find_python() {
    local candidate
    # the lock is made for 3.11: it comes first
    for candidate in ${PYTHON:-python3.11 python3 python3.12 python3.13}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    local found
    found=$("${PYTHON:-python3}" --version 2>&1 | head -n 1) || found="none"
    fail "Python 3.11 or newer is needed (found: $found): install python3.11, or say make PYTHON=/path/to/python3.11"
}

make_venv() {
    local python=$1
    if "$python" -c 'import ensurepip' 2>/dev/null; then
        "$python" -m venv --clear .venv
    elif "$python" -m pip --version >/dev/null 2>&1; then # Debian without python3-venv
        "$python" -m venv --clear --without-pip .venv
        "$python" -m pip --python .venv/bin/python install --quiet pip
    else
        fail "$python has neither venv nor pip: apt-get install python3-venv"
    fi
}

if ! .venv/bin/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python=$(find_python)
    echo "making .venv with $("$python" --version)"
    make_venv "$python"
fi
pip=(.venv/bin/python -m pip --disable-pip-version-check --no-input)
for file in "$@"; do
    echo "installing $file"
    # bytecode is compiled afterwards, on all cores
    "${pip[@]}" install --quiet --no-compile --require-hashes -r "$file"
done
if ! said=$("${pip[@]}" install --quiet --no-compile --no-deps --no-build-isolation --editable . 2>&1); then
    fail "the project itself cannot be installed: $said"
fi
.venv/bin/python -m compileall -q -j 0 .venv/lib >/dev/null 2>&1 || true # a few test files of libraries do not compile
