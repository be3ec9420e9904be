#!/usr/bin/env bash
# Compiles everything below the model for ARM64: the kernels (NEON through Highway), tensors and base.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
include=$out/include
mkdir "$include"
ln -s /usr/include/hwy "$include/hwy"  # headers only, the same for every processor
ln -s /usr/include/fmt "$include/fmt"
for file in src/ops/cpu/*.cpp src/ops/*.cpp src/tensor/*.cpp src/base/{error,log,cpu,parallel}.cpp; do
    aarch64-linux-gnu-g++ -std=c++20 -O2 -Wall -Isrc -I"$include" -DFMT_HEADER_ONLY -c "$file" -o "$out/object.o"
    echo "$file"
done
echo "arm64: compiled"
