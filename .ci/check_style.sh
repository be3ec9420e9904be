#!/usr/bin/env bash
# Format, file length (500 lines), function length (60 lines, or a `// long:` comment with the reason above it).
set -euo pipefail
cd "$(dirname "$0")/.."
mapfile -t files < <(git ls-files 'src/*.h' 'src/*.cpp' 'include/*.h' 'tests/*.h' 'tests/*.cpp' 'bench/*.cpp' 'examples/*.cpp')
formatter=$(command -v clang-format-14 || command -v clang-format)
"$formatter" --dry-run --Werror "${files[@]}"
status=0
for file in "${files[@]}"; do
    lines=$(wc -l <"$file")
    if [ "$lines" -gt 500 ]; then echo "$file: $lines lines, at most 500"; status=1; fi
done
while read -r lines file; do
    if [ "$lines" -gt 500 ] && [ "$file" != total ]; then echo "$file: $lines lines, at most 500"; status=1; fi
done < <(git ls-files 'web/*' 'tests/e2e/serve/*.py' | xargs wc -l)
# A function at namespace or class level ends with a brace in the column where it began (0 or 4).
awk '
    FNR == 1 { open = 0 }
    /^( {4})?[A-Za-z_~].*\) *(const|noexcept|override|-> [^{]*)* *(: .*)?\{$/ && !/^( {4})?(if|for|while|switch|namespace|else|do|return)/ {
        match($0, /^ */); indent = RLENGTH; start = FNR; open = 1; excused = previous ~ /long:/
    }
    open && FNR > start { match($0, /^ */); if (RLENGTH == indent && $0 ~ /^ *\}/) {
        if (FNR - start > 60 && !excused) { printf "%s:%d: function of %d lines, at most 60\n", FILENAME, start, FNR - start; bad = 1 }
        open = 0 } }
    { previous = $0 }
    END { exit bad }' $(git ls-files 'src/*.cpp' 'src/*.h') || status=1
[ $status -eq 0 ] && echo "style: fine"
exit $status
