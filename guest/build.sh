#!/bin/bash
# Build the guest of the tests: a small Linux that behaves like CirrOS, made from Debian packages alone.
#
#   bash guest/build.sh FOLDER [KERNEL-PACKAGE]
#
# leaves in FOLDER: disk.qcow2 (boots by BIOS and by UEFI), vmlinuz and initrd.img (to boot it directly).
# Nothing is mounted and no loop device is used, so an ordinary user can build it.  A stamp holds the hash
# of everything that goes in; when it is unchanged there is nothing to do.
set -euo pipefail

set -- "${1:?usage: build.sh FOLDER [KERNEL-PACKAGE]}" "${2:-}"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=$(mkdir -p "$1" && cd "$1" && pwd)
export PATH=$PATH:/usr/sbin:/sbin LC_ALL=C

# Our own files and the versions of the packages whose programs go in.
inputs_hash() {
    {
        echo "$1"
        (cd "$here" && find . -type f ! -path './debian/*' -print0 | sort -z | xargs -0 sha256sum)
        grep -v '^#' "$here/packages.txt" | xargs dpkg-query -W
    } | sha256sum | cut -c1-64
}

# shellcheck source=once.sh
. "$here/once.sh"
once "$out/stamp" "$(inputs_hash "$2")" "$out/disk.qcow2"
echo "Guest image …"

# shellcheck source=kernel.sh
. "$here/kernel.sh"
# shellcheck source=root.sh
. "$here/root.sh"
# shellcheck source=disk.sh
. "$here/disk.sh"

fetch_kernel "$out/kernel/$kernel_package"
stage_root "$work/root"
stage_initrd "$work/initrd"
pack_initrd "$work/initrd" "$work/initrd.img"
pack_root "$work/root" "$work/root.raw"
pack_disk "$work/disk.raw"
qemu-img convert -c -f raw -O qcow2 "$work/disk.raw" "$work/disk.qcow2"
cp "$kernel_image" "$work/vmlinuz"
done_once vmlinuz initrd.img disk.qcow2
