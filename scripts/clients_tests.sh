#!/usr/bin/env bash
# LangChain, LlamaIndex and LiteLLM against the service: makes a virtual environment under the build folder, which takes minutes, and
# runs tests/e2e/serve/clients.py. Status 77, with a line that says why, where they cannot be had. Arguments go to pytest.
#   scripts/clients_tests.sh build
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
shift || true
venv=$build/clients_venv

skip() { echo "SKIPPED: the tests of clients: $*"; exit 77; }

command -v python3 >/dev/null || skip "python3 is not installed"
if ! "$venv/bin/python" -c 'import langchain_openai, litellm, llama_index.llms.openai_like, prometheus_client, pytest' 2>/dev/null; then
    python3 -m venv "$venv" >/dev/null 2>&1 || skip "python3 cannot make a virtual environment (apt-get install python3-venv)"
    "$venv/bin/pip" install -q langchain-openai litellm llama-index-llms-openai-like 'pytest>=7' prometheus-client >/dev/null 2>&1 ||
        skip "they cannot be installed from PyPI"
fi
INTERNVL_PROGRAM=$(realpath "$build/internvl")
export INTERNVL_PROGRAM
exec "$venv/bin/python" -m pytest -q -p no:cacheprovider tests/e2e/serve/clients.py "$@"
