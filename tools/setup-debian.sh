#!/bin/bash
# Installs what Debian 12, Debian 13 and Ubuntu 24.04 or later need to build, run and test Sluice.
#
#   tools/setup-debian.sh                 everything
#   tools/setup-debian.sh --build-only    leaves out what only the tests need
#   tools/setup-debian.sh --list          prints the package names and changes nothing
#
# Run it as root or as a user with sudo. Packages that are there already are left alone; a second run does nothing.
set -euo pipefail

# The compiler and its tools; glslc and spirv-tools compile and check the shaders.
build=(gcc libc6-dev make cmake ninja-build pkg-config glslc spirv-tools)
# Vulkan headers and loader, the asynchronous reader, checksums, JSON, Unicode tables, regular expressions.
build+=(libvulkan-dev liburing-dev libxxhash-dev libjansson-dev libutf8proc-dev libpcre2-dev)
# Drivers: llvmpipe runs everything where there is no graphics card, RADV also compiles shaders without one.
run=(libvulkan1 mesa-vulkan-drivers)
test=(libcmocka-dev python3 vulkan-validationlayers)

packages=("${build[@]}" "${run[@]}" "${test[@]}")
case ${1-} in
"") ;;
--build-only) packages=("${build[@]}" "${run[@]}") ;;
--list)
    printf '%s\n' "${packages[@]}"
    exit 0
    ;;
*)
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac

if ! command -v apt-get >/dev/null; then
    echo "setup-debian.sh: there is no apt-get here; README.md lists the packages for Fedora and Arch" >&2
    exit 1
fi

missing=()
for package in "${packages[@]}"; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
    echo "setup: all ${#packages[@]} packages are installed"
    exit 0
fi

root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
        echo "setup-debian.sh: run this as root (there is no sudo): ${missing[*]} are missing" >&2
        exit 1
    }
    root=(sudo)
fi
echo "setup: installing ${missing[*]}"
"${root[@]}" apt-get update -qq
"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 "${missing[@]}" >/dev/null
echo "setup: ${#missing[@]} packages installed"
