#!/usr/bin/env bash
# Installs the packages that a build needs and that are missing (Debian 12, Ubuntu 24.04). Does nothing, quickly, when
# all are there. Names of further packages may follow as arguments.
set -euo pipefail

packages=(
    g++ cmake ninja-build pkg-config git ccache
    libfmt-dev nlohmann-json3-dev libssl-dev libxxhash-dev libcurl4-openssl-dev ca-certificates libcli11-dev libedit-dev
    libjpeg-dev libpng-dev libwebp-dev libgif-dev libtiff-dev
    libavformat-dev libavcodec-dev libswscale-dev libavutil-dev
    libspdlog-dev libtomlplusplus-dev libseccomp-dev libutf8proc-dev libhwy-dev libgtest-dev libbenchmark-dev
    "$@"
)

# Coroutines want Boost 1.81 or newer; Debian 12 has an older one under the plain name.
if grep -qs '^VERSION_CODENAME=bookworm' /etc/os-release; then packages+=(libboost1.81-dev); else packages+=(libboost-dev); fi

missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
    echo "setup: this system has no apt-get; install the equivalents of: ${missing[*]}" >&2
    exit 1
fi
if [ "$(id -u)" -eq 0 ]; then
    as_root=()
elif command -v sudo >/dev/null; then
    as_root=(sudo)
else
    echo "setup: run as root: apt-get update && apt-get install -y ${missing[*]}" >&2
    exit 1
fi
echo "setup: installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -q >/dev/null
"${as_root[@]}" apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null
