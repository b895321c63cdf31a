"""The Linux switch: bridges, VXLAN, nftables, dnsmasq and namespaces on one machine."""

from .driver import LinuxSwitch
from .links import PhysicalNet, Underlay
from .namespaces import SwitchError

__all__ = ["LinuxSwitch", "PhysicalNet", "SwitchError", "Underlay"]
