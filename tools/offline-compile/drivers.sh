# Drivers of cards that are not there, for run.sh and peer.sh, which source this file.
#
# Expects: build (the build folder), out (a folder for what is made), sid (a Debian sid tree, or empty).
# on_target TARGET COMMAND... runs a command with the Vulkan driver of that target in the working directory, which must be
# the command's own. Exit status 77: not possible here. run.sh lists the targets.

# copy_icd TREE NAME: the tree's description of driver NAME, with the library's whole path.
copy_icd() {
    local from
    from=$(find "$1/usr/share/vulkan/icd.d" -name "$2_icd*.json" 2>/dev/null | head -n 1) || true
    [ -n "$from" ] || return 77
    sed "s|\"library_path\": \".*libvulkan|\"library_path\": \"$1/usr/lib/x86_64-linux-gnu/libvulkan|" "$from"
}

# Extracts Mesa of Debian 12's backports next to the system's: nothing is installed. The mirror is the one that this
# machine's apt uses.
fetch_backports() {
    local cache=$out/backports site
    [ ! -e "$cache/complete" ] || return 0
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || return 77
    site=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Codename: bookworm' 2>/dev/null | head -n 1) || true
    [ -n "$site" ] || return 77
    rm -rf "$cache"
    mkdir -p "$cache/state/lists/partial" "$cache/cache/archives/partial" "$cache/tree" "$cache/none"
    echo "deb $site bookworm-backports main" >"$cache/sources.list"
    cat >"$cache/apt.conf" <<END
Dir::State "$cache/state";
Dir::Cache "$cache/cache";
Dir::Etc::sourcelist "$cache/sources.list";
Dir::Etc::sourceparts "$cache/none";
Dir::Etc::preferences "$cache/none/preferences";
Dir::Etc::preferencesparts "$cache/none";
Acquire::Languages "none";
APT::Sandbox::User "";
END
    (
        cd "$cache"
        export APT_CONFIG=$cache/apt.conf
        timeout 120 apt-get -qq update
        timeout 120 apt-get -qq download mesa-vulkan-drivers/bookworm-backports libdrm2/bookworm-backports \
            libdrm-amdgpu1/bookworm-backports
        for package in *.deb; do
            dpkg -x "$package" tree
        done
        rm -rf ./*.deb cache state
    ) >"$cache/log" 2>&1 || return 77
    touch "$cache/complete"
}

# with_system FAMILY COMMAND...: with the system's RADV for a named chip. RADV compiles without hardware when
# RADV_FORCE_FAMILY is set, up to Mesa 25.
with_system() {
    local family=$1 driver
    shift
    driver=$(find /usr/share/vulkan/icd.d /usr/local/share/vulkan/icd.d -name 'radeon_icd*.json' 2>/dev/null | head -n 1) || true
    [ -n "$driver" ] || return 77
    env RADV_FORCE_FAMILY="$family" VK_DRIVER_FILES="$driver" VK_ICD_FILENAMES="$driver" "$@"
}

with_backports() {
    local family=$1
    shift
    fetch_backports || return 77
    copy_icd "$out/backports/tree" radeon >"$out/backports/radeon.json"
    env RADV_FORCE_FAMILY="$family" VK_DRIVER_FILES="$out/backports/radeon.json" \
        VK_ICD_FILENAMES="$out/backports/radeon.json" \
        LD_LIBRARY_PATH="$out/backports/tree/usr/lib/x86_64-linux-gnu" "$@"
}

# with_sid DRIVER PRELOAD VARIABLE=VALUE COMMAND...: with the C library and the drivers of the sid tree, but without its
# root: no chroot is needed. PRELOAD stands in for a kernel driver.
with_sid() {
    local driver=$1 preload=$2 setting=$3 libraries=$sid/usr/lib/x86_64-linux-gnu
    shift 3
    [ -n "$sid" ] && [ -e "$libraries/ld-linux-x86-64.so.2" ] && [ -e "$preload" ] || return 77
    copy_icd "$sid" "$driver" >"$out/$driver.json" || return 77
    env "$setting" VK_DRIVER_FILES="$out/$driver.json" "$libraries/ld-linux-x86-64.so.2" \
        --library-path "$libraries:$libraries/ggml/backends0" --preload "$preload" "$@"
}

with_sid_amd() {
    with_sid radeon "$sid/usr/lib/x86_64-linux-gnu/libamdgpu_noop_drm_shim.so" "AMDGPU_GPU_ID=$1" "${@:2}"
}

with_sid_nvidia() {
    with_sid nouveau "$sid/usr/lib/x86_64-linux-gnu/libnouveau_noop_drm_shim.so" "NOUVEAU_CHIPSET=$1" "${@:2}"
}

# Mesa keeps at most 19 characters of the node's path: so it is relative, in the target's own working directory.
with_sid_intel() {
    local status=0
    truncate -s 64G i915-node
    with_sid intel "$build/tools/offline-compile/libi915_device.so" "I915_DEVICE_ID=$1" "${@:2}" || status=$?
    rm -f i915-node
    return $status
}

# is_unknown TARGET STATUS: whether the driver is missing or does not know the chip (then it aborts).
is_unknown() {
    [ "$2" -eq 77 ] || grep -q "Unknown family" "$out/$1.log" 2>/dev/null
}

# on_target TARGET COMMAND...: exit status 77 if that is not possible here.
on_target() {
    local target=$1
    shift
    case $target in
    rdna2) with_system navi21 "$@" ;;
    rdna3) with_system gfx1100 "$@" || { is_unknown "$target" $? && with_system navi31 "$@"; } ;; # by Mesa's age
    rdna4) with_system gfx1201 "$@" || { is_unknown "$target" $? && with_backports gfx1201 "$@"; } ;;
    sid-rdna2) with_sid_amd navi21 "$@" ;;
    sid-rdna3) with_sid_amd navi31 "$@" ;;
    sid-rdna4) with_sid_amd gfx1201 "$@" ;;
    sid-a770) with_sid_intel 0x56a0 "$@" ;;
    sid-b580) with_sid_intel 0xe20b "$@" ;;
    sid-ampere) with_sid_nvidia 172 "$@" ;;
    sid-ada) with_sid_nvidia 192 "$@" ;;
    sid-blackwell) with_sid_nvidia 1b2 "$@" ;;
    *)
        echo "offline-compile: there is no target $target" >&2
        return 2
        ;;
    esac
}
