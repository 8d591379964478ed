#!/bin/sh
# Make the virtual environment $1, whose Python is then $2, and install s9lib for development with the tested versions.
# $PYTHON names the Python to use; without it the first suitable one is taken, the untested newer ones last.
set -eu
venv=$1 py=$2

suits() { # a Python of the range $2..$3 that can make environments
    "$1" -c "import sys, venv, ensurepip; sys.exit(not ($2 <= sys.version_info[:2] <= $3))" >/dev/null 2>&1
}
find_python() {
    for p in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10 python}; do
        suits "$p" '(3,10)' '(3,13)' && { echo "$p"; return; }
    done
    for p in ${PYTHON:-python3 python python3.14 python3.15}; do
        suits "$p" '(3,14)' '(3,99)' && { echo "$p"; return; }
    done
    echo "No Python among ${PYTHON:-python3, python} makes environments: s9lib needs 3.10 to 3.13 with venv" \
        "(https://www.python.org; Debian: apt install python3-venv). Name it: make PYTHON=/path/to/it" >&2
    return 1
}

if ! "$py" -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    echo "Making $venv with $("$python" --version) ($(command -v "$python"))"
    "$python" -m venv --clear "$venv"
fi
echo "Installing s9lib and its tested versions (constraints.txt) into $venv: minutes and up to 7 GB the first time"
"$py" -m pip install --disable-pip-version-check --no-input -q -c constraints.txt pip
"$py" -m pip install --disable-pip-version-check --no-input -c constraints.txt -e '.[dev]' && exit
free=$(df -Pk "$venv" | awk 'NR == 2 {print int($4/1048576)}')
[ "$free" -ge 7 ] || echo "$free GB are free where $venv lies, and up to 7 are needed: free some, or name another" \
    "place (make VENV=/path/to/env), and run the same command again" >&2
exit 1
