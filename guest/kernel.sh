# The guest's kernel: Debian's package unpacked, never installed.  Sourced by build.sh.
# shellcheck shell=bash disable=SC2034

# The cloud kernel boots in 6 CPU seconds under TCG where the general one (linux-image-amd64) takes 10, but has no
# AHCI and no USB: name the other as build.sh's second argument for guests with such disks.
kernel_package=${2:-linux-image-cloud-amd64}

# Lists name all modules of either kernel; what one has built in or lacks is left out.
# Loaded in the initrd, before there is a root file system.
modules_for_root="virtio_pci virtio_blk ext4 crc32c_generic"
# Loaded at boot.
modules_for_boot="virtio_rng virtio_net button evdev"
# Loaded when a disk may hold the config drive, else after ssh is up: later devices are found without udev.
modules_for_devices="virtio_scsi sd_mod sr_mod ata_piix ahci xhci_pci ehci_pci uhci_hcd usb_storage uas isofs vfat \
nls_cp437 nls_ascii nls_iso8859_1 loop virtio_balloon 8021q"

# fetch_kernel FOLDER: sets kernel_image, kernel_version and modules_tree (a tree that modprobe understands).
fetch_kernel() {
    local folder=$1 name deb
    mkdir -p "$folder"
    deb=$(find "$folder" -name 'linux-image-*.deb' | head -n 1)
    if [ -z "$deb" ]; then
        name=$(newest_kernel) || { apt-get update -qq && name=$(newest_kernel); }
        echo "  kernel $name"
        (cd "$folder" && apt-get download -qq "$name" 2> download.log) || { cat "$folder/download.log" >&2; return 1; }
        deb=$(find "$folder" -name 'linux-image-*.deb' | head -n 1)
    fi
    modules_tree=$work/kernel
    dpkg -x "$deb" "$modules_tree"
    kernel_version=$(ls "$modules_tree/lib/modules")
    kernel_image=$modules_tree/boot/vmlinuz-$kernel_version
    depmod -b "$modules_tree" "$kernel_version"
}

# The package behind Debian's name for "the current kernel"; fails without package lists.
newest_kernel() {
    apt-cache depends "$kernel_package" 2> /dev/null | awk '/Depends: linux-image-/ { print $2; found = 1 } END { exit !found }'
}

# module_files NAME…: paths of these modules and all that they need, in the order in which they load.
module_files() {
    local name
    for name in "$@"; do
        modprobe -d "$modules_tree" -S "$kernel_version" -D "$name" 2> /dev/null || true
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }'
}
