"""Taps: opened inside the network namespace that holds them, so that QEMU needs no network of its own."""

import ctypes
import fcntl
import os
import socket
import struct
import threading
from pathlib import Path

_TUNSETIFF = 0x400454CA
_TAP_NO_PI_VNET_HDR = 0x0002 | 0x1000 | 0x4000
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def open_tap(netns: str, device: str) -> int:
    """A file descriptor of an existing tap in a namespace ("" is our own).

    Raises ConnectionError while the namespace or the tap is not there, or another QEMU has it.
    """
    answer: list[int] = []
    failure: list[OSError] = []

    def enter() -> None:
        try:
            if netns:
                _enter(netns)
            answer.append(_open(device))
        except OSError as error:
            failure.append(error)

    thread = threading.Thread(target=enter, name=f"tap {device}", daemon=True)  # its namespace ends with it
    thread.start()
    thread.join()
    if failure:
        raise ConnectionError(f"tap {device} cannot be opened yet: {failure[0]}")
    return answer[0]


def _enter(netns: str) -> None:
    fd = os.open(Path("/run/netns") / netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(fd, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"namespace {netns} cannot be entered")
    finally:
        os.close(fd)


def _open(device: str) -> int:
    socket.if_nametoindex(device)  # a missing tap would be made anew, without its filters
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", device.encode(), _TAP_NO_PI_VNET_HDR))
    except OSError:
        os.close(fd)
        raise
    return fd
