#!/bin/bash
# Build a Debian with the real cloud-init, as cloud images have it, from Debian's packages alone.
#
#   bash guest/debian/build.sh FOLDER
#
# leaves debian.qcow2 in FOLDER (boots by BIOS and by UEFI; log in as debian by key) and debian.tar.zst, its
# root file system.  Needs root: packages are configured in a chroot.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=$(mkdir -p "${1:?usage: build.sh FOLDER}" && cd "$1" && pwd)
export PATH=$PATH:/usr/sbin:/sbin LC_ALL=C
suite=bookworm

# shellcheck source=../once.sh
. "$here/../once.sh"
once "$out/debian.stamp" \
    "$(cd "$here" && find . ../disk.sh ../once.sh -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -c1-64)" \
    "$out/debian.qcow2" "$out/debian.tar.zst"
echo "Debian guest …"

# shellcheck source=../disk.sh
. "$here/../disk.sh"
boot_mib=64
root_mib=768
command_line="root=LABEL=debian console=tty1 console=ttyS0 net.ifnames=0 quiet mitigations=off no_timer_check \
cryptomgr.notests nokaslr audit=0 apparmor=0"

# Where this machine gets its own Debian packages.
sources() {
    # shellcheck disable=SC2016 # apt-get fills these in
    apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' \
        'Created-By: Packages' 'Origin: Debian' "Architecture: $(dpkg --print-architecture)" | grep " $suite"
}

# Nobody reads manuals in this guest, and the archive may be an old snapshot.
sources | mmdebstrap --quiet --variant=minbase --include="$(paste -sd, "$here/packages.txt")" \
    --aptopt='Acquire::Check-Valid-Until "false"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --setup-hook="cp -r '$here/files/.' \"\$1\"" --customize-hook="'$here/customize' \"\$1\"" \
    "$suite" "$work/tree" -
kernel_image=$(echo "$work"/tree/boot/vmlinuz-*)
mv "$work"/tree/boot/initrd.img-* "$work/initrd.img"
mv "$kernel_image" "$work/vmlinuz"
kernel_image=$work/vmlinuz
tar -C "$work/tree" --numeric-owner -c . | zstd -q -3 > "$work/debian.tar.zst"
truncate -s ${root_mib}M "$work/root.raw"
mke2fs -q -t ext4 -L debian -d "$work/tree" "$work/root.raw"
pack_disk "$work/disk.raw"
qemu-img convert -c -f raw -O qcow2 "$work/disk.raw" "$work/debian.qcow2"
done_once debian.tar.zst debian.qcow2
