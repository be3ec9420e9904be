#!/usr/bin/env bash
# Kernel files are compiled for several instruction sets. A weak symbol in one of them (an inline function of the
# standard library, say) could be the copy that the linker keeps for the whole program: it must not use AVX registers.
# usage: .ci/check_symbols.sh BUILD
set -euo pipefail
build=$1 status=0
[ "$(uname -m)" = x86_64 ] || { echo "symbols: checked on x86-64 only"; exit 0; }
objects=$(find "$build/CMakeFiles/iv_ops_cpu.dir" -name '*.o')
[ -n "$objects" ] || { echo "no kernel objects in $build"; exit 1; }
for object in $objects; do
    weak=$(nm "$object" | awk '$2 ~ /^[WV]$/ { print $3 }')
    for symbol in $weak; do
        if objdump -d --no-show-raw-insn --section=".text.$symbol" "$object" 2>/dev/null | grep -qE '%(y|z)mm'; then
            echo "$object: weak symbol $(c++filt "$symbol") uses AVX registers"
            status=1
        fi
    done
done
[ $status -eq 0 ] && echo "symbols: fine"
exit $status
