# The guest's root file system and its initrd, as trees of files.  Sourced by build.sh.
# shellcheck shell=bash disable=SC2154

# Programs that must be the real ones: their options are those that people and tests know.
programs="/usr/bin/bash /usr/sbin/dropbear /usr/bin/dropbearkey /usr/bin/dbclient /usr/bin/scp /usr/lib/openssh/sftp-server
    /usr/bin/sudo /usr/bin/curl /usr/bin/socat    /usr/sbin/mke2fs /usr/sbin/resize2fs /usr/sbin/e2fsck /usr/sbin/mkfs.fat /usr/sbin/mkfs /usr/sbin/blkid
    /usr/bin/lsblk /usr/bin/findmnt /usr/bin/mount /usr/bin/umount /usr/bin/ping /usr/bin/md5sum /usr/bin/sha1sum"
plugins="/usr/libexec/sudo/sudoers.so /lib/x86_64-linux-gnu/security/pam_permit.so"

# copy_programs TREE FILE…: each file with the shared libraries that it needs.
copy_programs() {
    local tree=$1 file library
    shift
    for file in "$@"; do
        install -D -m 755 "$(readlink -f "$file")" "$tree$file"
        for library in $(ldd "$file" 2> /dev/null | grep -oE '/[^ ]+' || true); do
            library_into "$tree" "$library"
        done
    done
    library_into "$tree" /lib64/ld-linux-x86-64.so.2
}

library_into() {
    local target=$1/usr/lib/x86_64-linux-gnu/${2##*/}
    [ -e "$target" ] || install -D -m 755 "$(readlink -f "$2")" "$target"
}

# base_tree TREE: the merged-/usr skeleton with busybox under all its names, real programs win.
base_tree() {
    local tree=$1 name
    mkdir -p "$tree"/{dev,proc,sys,run,etc,tmp,usr/bin,usr/sbin,usr/lib/x86_64-linux-gnu}
    ln -s usr/bin usr/sbin usr/lib "$tree"
    ln -s usr/lib "$tree/lib64"
    ln -s x86_64-linux-gnu/ld-linux-x86-64.so.2 "$tree/usr/lib/ld-linux-x86-64.so.2"
    install -m 755 /bin/busybox "$tree/usr/bin/busybox"
    for name in $(busybox --list); do
        case $name in
            busybox | dpkg | dpkg-deb | rpm) ;;
            acpid | fdisk | getty | halt | ifconfig | init | insmod | ip | klogd | losetup | lsmod | mdev | mkswap | modprobe | \
                poweroff | reboot | rmmod | route | start-stop-daemon | sulogin | swapoff | swapon | switch_root | sysctl | \
                syslogd | udhcpc) ln -s ../bin/busybox "$tree/usr/sbin/$name" ;;
            *) ln -s busybox "$tree/usr/bin/$name" ;;
        esac
    done
}

# modules_into TREE NAME…: a module tree of just these, and lists in load order for insmod.
modules_into() {
    local tree=$1 file folder
    shift
    folder=$tree/lib/modules/$kernel_version
    mkdir -p "$folder"
    cp "$modules_tree/lib/modules/$kernel_version"/modules.{builtin,builtin.modinfo,order} "$folder/"
    for file in $(module_files "$@"); do
        install -D -m 644 "$file" "$folder/${file##*/}"
    done
    depmod -b "$tree" "$kernel_version"
}

# load_list NAME…: the file names of modules in the order in which insmod takes them.
load_list() {
    module_files "$@" | sed 's,.*/,,'
}

stage_root() {
    local tree=$1 kind
    base_tree "$tree"
    mkdir -p "$tree"/{boot,home/cirros,media,mnt,opt,root,srv,var/lib,var/log,etc/dropbear,etc/pileus}
    ln -s ../run "$tree/var/run"
    ln -s ../tmp "$tree/var/tmp"
    # shellcheck disable=SC2086
    for file in $programs; do rm -f "$tree/usr/bin/${file##*/}" "$tree/usr/sbin/${file##*/}"; done
    # shellcheck disable=SC2086
    copy_programs "$tree" $programs $plugins
    for kind in ext2 ext3 ext4; do ln -sf mke2fs "$tree/usr/sbin/mkfs.$kind"; done
    ln -s e2fsck "$tree/usr/sbin/fsck.ext4"
    ln -s mkfs.fat "$tree/usr/sbin/mkfs.vfat"
    ln -sf ping "$tree/usr/bin/ping6"
    ln -s dbclient "$tree/usr/bin/ssh"
    for file in ip ifconfig route; do ln -s ../sbin/$file "$tree/usr/bin/$file"; done # on the path that ssh gives
    ln -s openssh/sftp-server "$tree/usr/lib/sftp-server"
    rm "$tree/usr/bin/nc"
    cp -r "$here/rootfs/." "$tree/"
    # shellcheck disable=SC2086
    modules_into "$tree" $modules_for_root $modules_for_boot $modules_for_devices
    # shellcheck disable=SC2086
    load_list $modules_for_boot > "$tree/etc/pileus/modules-boot"
    # shellcheck disable=SC2086
    load_list $modules_for_devices > "$tree/etc/pileus/modules-devices"
    chmod -R go-w "$tree"
    chmod 1777 "$tree/tmp"
    chmod 4755 "$tree/usr/bin/sudo" "$tree/usr/bin/busybox" "$tree/usr/bin/ping"
    chmod 440 "$tree/etc/sudoers"
    chmod 600 "$tree/etc/shadow"
    chmod 755 "$tree/etc/init.d/boot" "$tree/usr/bin/nc" "$tree/usr/sbin/instance-data" "$tree/usr/sbin/boot-report" \
        "$tree/usr/share/udhcpc/default.script" "$tree/etc/acpi/PWRF/00000080"
}

stage_initrd() {
    local tree=$1 file
    mkdir -p "$tree"/{bin,dev,proc,sys,newroot,modules}
    install -m 755 /bin/busybox "$tree/bin/busybox"
    ln -s busybox "$tree/bin/sh"
    # shellcheck disable=SC2086
    for file in $(module_files $modules_for_root $modules_for_devices); do cp "$file" "$tree/modules/"; done
    # shellcheck disable=SC2086
    load_list $modules_for_root > "$tree/modules/first"
    # shellcheck disable=SC2086
    load_list $modules_for_devices > "$tree/modules/others"
    install -m 755 "$here/initrd/init" "$tree/init"
}
