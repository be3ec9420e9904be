#!/usr/bin/env bash
# The web page in headless Chromium: makes a virtual environment under the build folder and runs tests/e2e/serve/page_*test.py.
# Status 77, with a line that says why, where the browser or the Python packages cannot be had. Arguments go to pytest.
#   scripts/page_tests.sh build
#   INTERNVL_PAGE_URL=http://127.0.0.1:23333 scripts/page_tests.sh build -k boxes     # against a running server
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-build}/page_venv
shift || true

skip() { echo "SKIPPED: the tests of the web page: $*"; exit 77; }

CHROMIUM=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || true)}
[ -n "$CHROMIUM" ] || skip "Chromium is not installed (apt-get install chromium)"
export CHROMIUM
command -v python3 >/dev/null || skip "python3 is not installed"
if ! "$venv/bin/python" -c 'import playwright, pytest' 2>/dev/null; then
    python3 -m venv "$venv" >/dev/null 2>&1 || skip "python3 cannot make a virtual environment (apt-get install python3-venv)"
    "$venv/bin/pip" install -q 'playwright>=1.40' 'pytest>=7' >/dev/null 2>&1 || skip "playwright and pytest cannot be installed from PyPI"
fi
export PYTHONPATH=tests/e2e/serve PYTHONDONTWRITEBYTECODE=1
exec "$venv/bin/python" -m pytest -q -p no:cacheprovider -p page_site tests/e2e/serve/page_*test.py "$@"
