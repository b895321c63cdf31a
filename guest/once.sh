# A build that is done once: sourced by the builds of images.
# shellcheck shell=bash

# once STAMP-FILE STAMP PRODUCT…: exits when the products were made of what STAMP says; else takes the lock of the
# folder $out, makes the folder $work for the time of the build, and says on which line a build failed.
once() {
    stamp_file=$1 stamp=$2
    shift 2
    ! built "$@" || exit 0
    exec 9> "$out/lock"
    flock 9
    ! built "$@" || exit 0 # somebody else built it meanwhile
    work=$(mktemp -d "$out/work.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'echo "$0: line $LINENO failed: $BASH_COMMAND" >&2' ERR
    set -E
}

built() {
    [ "$(cat "$stamp_file" 2> /dev/null)" = "$stamp" ] || return 1
    for product in "$@"; do [ -s "$product" ] || return 1; done
}

# done_once PRODUCT…: move the finished files from $work to $out and remember what they were made of.
done_once() {
    for product in "$@"; do mv "$work/$product" "$out/"; done
    echo "$stamp" > "$stamp_file"
}
