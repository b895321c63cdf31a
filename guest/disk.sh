# Trees of files into images: initrd, root file system, bootable disk.  Sourced by build.sh.
# shellcheck shell=bash disable=SC2154

boot_mib=24 # FAT: boot loaders, kernel, initrd
root_mib=64 # ext4, the last partition: it grows with the disk
command_line="root=LABEL=cirros-rootfs console=tty1 console=ttyS0 net.ifnames=0 quiet mitigations=off no_timer_check \
cryptomgr.notests nokaslr audit=0 apparmor=0 init_on_alloc=0 rcupdate.rcu_expedited=1"

pack_initrd() {
    (cd "$1" && find . | sort | cpio -o -H newc --quiet -R 0:0 | zstd -q -19) > "$2"
}

# pack_root TREE FILE: no root needed: mke2fs reads the tree, debugfs gives files to their owners.
pack_root() {
    truncate -s ${root_mib}M "$2"
    # room in the group descriptors to grow to 1 TiB online
    mke2fs -q -t ext4 -L cirros-rootfs -b 4096 -m 1 -N 8192 -J size=4 -O ^metadata_csum,resize_inode \
        -E resize=268435456,root_owner=0:0,lazy_itable_init=0,nodiscard -d "$1" "$2"
    (
        cd "$1"
        find . ! -uid 0 -o ! -gid 0 | sed 's,^\.,,' | while read -r file; do
            [ -z "$file" ] || printf 'sif "%s" uid 0\nsif "%s" gid 0\n' "$file" "$file"
        done
        printf 'sif /home/cirros uid 1000\nsif /home/cirros gid 1000\n'
    ) | debugfs -w -f - "$2" > /dev/null 2>&1
}

boot_settings() {
    cat <<-END
	DEFAULT guest
	PROMPT 0
	TIMEOUT 0
	LABEL guest
	 LINUX /vmlinuz
	 INITRD /initrd.img
	 APPEND $command_line
	END
}

# pack_disk FILE: MBR, a FAT partition that BIOS and UEFI boot from, the root file system.
pack_disk() {
    local fat=$work/fat.raw modules=/usr/lib/syslinux/modules
    truncate -s ${boot_mib}M "$fat"
    mkfs.fat -F 16 -n BOOT "$fat" > /dev/null
    boot_settings > "$work/syslinux.cfg"
    export MTOOLS_SKIP_CHECK=1
    mcopy -i "$fat" "$kernel_image" ::/vmlinuz
    mcopy -i "$fat" "$work/initrd.img" "$work/syslinux.cfg" $modules/bios/ldlinux.c32 ::/
    mmd -i "$fat" ::/EFI ::/EFI/BOOT
    mcopy -i "$fat" /usr/lib/SYSLINUX.EFI/efi64/syslinux.efi ::/EFI/BOOT/BOOTX64.EFI
    mcopy -i "$fat" $modules/efi64/ldlinux.e64 "$work/syslinux.cfg" ::/EFI/BOOT/
    syslinux --install "$fat"
    truncate -s $((1 + boot_mib + root_mib))M "$1"
    printf 'label: dos\nstart=2048, size=%d, type=ef, bootable\nstart=%d, type=83\n' \
        $((boot_mib * 2048)) $(((1 + boot_mib) * 2048)) | sfdisk -q "$1"
    dd if=/usr/lib/syslinux/mbr/mbr.bin of="$1" bs=440 count=1 conv=notrunc status=none
    dd if="$fat" of="$1" bs=1M seek=1 conv=notrunc,sparse status=none
    dd if="$work/root.raw" of="$1" bs=1M seek=$((1 + boot_mib)) conv=notrunc,sparse status=none
}
