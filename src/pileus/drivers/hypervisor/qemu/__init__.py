"""QEMU, driven directly over its own monitor (QMP)."""

from .driver import QemuHypervisor

__all__ = ["QemuHypervisor"]
