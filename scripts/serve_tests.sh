#!/usr/bin/env bash
# The service through the official client and over raw sockets: makes a virtual environment under the build folder and runs
# tests/e2e/serve/api_*test.py. Status 77, with a line that says why, where the Python packages cannot be had. Arguments go to pytest.
#   scripts/serve_tests.sh build
#   OPENAI='openai<2' scripts/serve_tests.sh build -k stream     # with another version of the client
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
shift || true
client=${OPENAI:-openai}
venv=$build/serve_venv
[ "$client" = openai ] || venv=$venv-$(printf %s "$client" | tr -c 'a-z0-9.\n' '_')

skip() { echo "SKIPPED: the tests of the service: $*"; exit 77; }

command -v python3 >/dev/null || skip "python3 is not installed"
if ! "$venv/bin/python" -c 'import openai, PIL, prometheus_client, pytest' 2>/dev/null; then
    python3 -m venv "$venv" >/dev/null 2>&1 || skip "python3 cannot make a virtual environment (apt-get install python3-venv)"
    "$venv/bin/pip" install -q "$client" pillow 'pytest>=7' prometheus-client >/dev/null 2>&1 ||
        skip "$client, pillow, pytest and prometheus-client cannot be installed from PyPI"
fi
INTERNVL_PROGRAM=$(realpath "$build/internvl")
export INTERNVL_PROGRAM
exec "$venv/bin/python" -m pytest -q -p no:cacheprovider tests/e2e/serve/api_*test.py "$@"
