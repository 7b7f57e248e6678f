#!/bin/bash
# A full disk. If this failed, users would learn of it after an hour, without knowing how much room is needed.
. "$(dirname "$0")/cli_lib.sh"

# A limit of file sizes is met in the same way.
ok synth --config "$configs/mixed.json" -o model
too_large='\(does not allow files of\|File too large\)'
(
    ulimit -f 100
    refused 1 "limited.sluice.*$too_large" convert model -o limited.sluice
    refused 1 "limited.*$too_large" synth --config "$configs/mixed.json" -o limited
    refused 1 "limited2.sluice.*$too_large" synth --config "$configs/mixed.json" --container limited2.sluice
) || exit 1
ls limited*.sluice 2>/dev/null && fail "a container beyond the limit of file sizes"
ls limited/*.safetensors 2>/dev/null && fail "a weight file beyond the limit of file sizes"

mkdir small
mount -t tmpfs -o size=1m tmpfs small 2>/dev/null || { echo "cannot mount a small file system: skipped"; exit 77; }
trap 'umount small; clean_up' EXIT
refused 1 'small/x.sluice' convert model -o small/x.sluice
[ -e small/x.sluice ] && fail "a container on a full disk"
refused 1 'small/model' synth --config "$configs/mixed.json" -o small/model
[ -e small/model/config.json ] && fail "a checkpoint on a full disk looks complete"
ls small/model/*.safetensors 2>/dev/null && fail "a weight file on a full disk looks complete"
refused 1 'disk is full.* still to be written' synth --config "$configs/mixed.json" --container small/y.sluice
[ -e small/y.sluice ] && fail "a synthetic container on a full disk"

# After making room the same command works.
mount -o remount,size=64m small || fail "remount"
ok convert model -o small/x.sluice
ok verify small/x.sluice
ok synth --config "$configs/mixed.json" --container small/y.sluice
ok verify small/y.sluice
echo OK
