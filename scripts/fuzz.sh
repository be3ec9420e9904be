#!/usr/bin/env bash
# Runs every fuzz target of a build folder for some seconds each, from the small files of the tests.
# usage: scripts/fuzz.sh BUILD SECONDS
set -euo pipefail
build=$1 seconds=$2
root=$(cd "$(dirname "$0")/.." && pwd)
fixtures=$root/tests/golden/checkpoints/tiny-1b

declare -A seeds=(
    [fuzz_image]=$root/tests/golden/media
    [fuzz_video]=$root/tests/golden/media
    [fuzz_config]="$fixtures $root/tests/golden/awq/tiny-2b"
    [fuzz_tokenizer]=$fixtures
    [fuzz_tokenizer_json]=$root/tests/golden/checkpoints/tiny-76b
    [fuzz_piece_model]=$root/tests/golden/checkpoints
    [fuzz_request]=$root/tests/fuzz/seeds
    [fuzz_safetensors]=""
    [fuzz_sealed_file]=""
    [fuzz_prompt]=""
    [fuzz_http]=""
    [fuzz_answer]=""
    [fuzz_url]=""
    [fuzz_media_message]=""
)
for target in "$build"/tests/fuzz/fuzz_*; do
    [ -x "$target" ] && [ -f "$target" ] || continue
    name=$(basename "$target")
    corpus=$(mktemp -d)
    trap 'rm -rf "$corpus"' EXIT
    if [ -n "${seeds[$name]:-}" ]; then find ${seeds[$name]} -type f -size -64k -exec cp --backup=numbered {} "$corpus" \;; fi
    echo "$name: $seconds s"
    "$target" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -print_funcs=0 -verbosity=0 "$corpus"
    rm -rf "$corpus"
done
