"""What extra specs of flavors may say: a key in a known namespace must be known, and its value make sense.  Pure.

Source: Compute configuration guide, "Extra specs", as microversion 2.86 checks them.  Keys of other namespaces
are the operator's own.
"""

import re
from collections.abc import Callable

from pileus.core.schema import truth

Check = Callable[[str], str | None]  # None: fine, else what was expected
_CPUS = r"\^?\d+((-\d+)?(,\^?\d+(-\d+)?)?)*"


def _number(least: int | None = None, most: int | None = None) -> Check:
    def check(value: str) -> str | None:
        if not re.fullmatch(r"[+-]?\d{1,18}", value.strip()):
            return "a number"
        if (least is not None and int(value) < least) or (most is not None and int(value) > most):
            return f"a number from {'-' if least is None else least}" + ("" if most is None else f" to {most}")
        return None

    return check


def _boolean(value: str) -> str | None:
    falsy = ("false", "0", "off", "no", "n", "f")
    return None if truth(value.strip()) or value.strip().lower() in falsy else "true or false"


def _one_of(*values: str) -> Check:
    return lambda value: None if value in values else f"one of {', '.join(values)}"


def _like(pattern: str) -> Check:
    return lambda value: None if re.fullmatch(pattern, value) else f"text like {pattern}"


def _anything(_value: str) -> str | None:
    return None


_COUNT, _NATURAL, _ANY = _number(1), _number(0), _number()
_SCOPE = r"[a-zA-Z0-9_-]{0,64}"
_CHECKS: list[tuple[str, Check]] = [
    (r"accel:device_profile", _anything),
    (r"aggregate_instance_extra_specs:.+", _anything),
    (r"capabilities:\w+(:\w+)*", _anything),
    (r"group_policy", _one_of("isolate", "none")),
    (r"hide_hypervisor_id", _boolean),
    (r"hw:cpu_policy", _one_of("dedicated", "shared", "mixed")),
    (r"hw:cpu_thread_policy", _one_of("prefer", "isolate", "require")),
    (r"hw:emulator_threads_policy", _one_of("isolate", "share")),
    (r"hw:cpu_dedicated_mask|hw:numa_cpus\.\d+", _like(_CPUS)),
    (r"hw:cpu_realtime_mask", _like(rf"(\^)?{_CPUS}")),
    (r"hw:mem_page_size", _like(r"large|small|any|\d+([kKMGT]i?)?(b|bit|B)?")),
    (r"hw:(numa_nodes|numa_mem\.\d+|cpu_(max_)?(sockets|cores|threads))", _COUNT),
    (r"hw:(cpu_realtime|hide_hypervisor_id|locked_memory|boot_menu|vif_multiqueue_enabled|mem_encryption|pmu"
     r"|virtio_packed_ring|ephemeral_encryption)", _boolean),
    (r"hw:mem_encryption_model", _one_of("amd-sev", "amd-sev-es", "amd-sev-snp", "intel-tdx")),
    (r"hw:pci_numa_affinity_policy", _one_of("required", "preferred", "legacy", "socket")),
    (r"hw:pmem", _like(r"([a-zA-Z0-9_]+,?)+")),
    (r"hw:serial_port_count", _NATURAL),
    (r"hw:redirected_usb_ports", _number(0, 15)),
    (r"hw:tpm_model", _one_of("tpm-tis", "tpm-crb")),
    (r"hw:tpm_version", _one_of("1.2", "2.0")),
    (r"hw:tpm_secret_security", _one_of("user", "host", "deployment")),
    (r"hw:watchdog_action", _one_of("none", "pause", "poweroff", "reset", "disabled")),
    (r"hw:viommu_model", _one_of("intel", "smmuv3", "virtio", "auto")),
    (r"hw:(sound_model|usb_model)", _like(r"[a-z0-9-]+")),
    (r"hw:ephemeral_encryption_format", _one_of("luks")),
    (r"hw:maxphysaddr_mode", _one_of("passthrough", "emulate")),
    (r"hw:maxphysaddr_bits", _NATURAL),
    (r"hw_rng:allowed", _boolean),
    (r"hw_rng:rate_(bytes|period)", _NATURAL),
    (r"hw_video:ram_max_mb", _NATURAL),
    (r"os:secure_boot", _one_of("disabled", "required", "optional")),
    (r"pci_passthrough:alias", _like(r"[^:]+:\d+(\s*,\s*[^:]+:\d+)*")),
    (r"quota:cpu_(shares|period)", _NATURAL),
    (r"quota:cpu_quota", _ANY),
    (r"quota:disk_(read|write|total)_(bytes|iops)_sec(_max(_length)?)?", _NATURAL),
    (r"quota:vif_(inbound|outbound)_(average|peak|burst)", _NATURAL),
    (r"quota:(cpu|memory|disk_io|vif)_(limit|shares_share)", _NATURAL),
    (r"quota:(cpu|memory|disk_io|vif)_reservation", _ANY),
    (r"quota:(cpu|memory|disk_io|vif)_shares_level", _one_of("custom", "high", "normal", "low")),
    (rf"resources{_SCOPE}:[A-Z0-9_]+", _ANY),
    (rf"trait{_SCOPE}:[A-Z0-9_]+", _one_of("required", "forbidden")),
]  # fmt: skip
_PATTERNS = [(re.compile(pattern), check) for pattern, check in _CHECKS]
_NAMESPACES = re.compile(
    r"accel|aggregate_instance_extra_specs|capabilities|hw|hw_rng|hw_video|os|pci_passthrough|quota"
    rf"|resources{_SCOPE}|trait{_SCOPE}"
)


def misspelt(key: str, value: str) -> str | None:
    """What is wrong with an extra spec, None when nothing is."""
    for pattern, check in _PATTERNS:
        if pattern.fullmatch(key):
            expected = check(value)
            return expected and f"'{value[:80]}' is no value of extra spec '{key}': expected {expected}."
    namespace, colon, _ = key.partition(":")
    if colon and _NAMESPACES.fullmatch(namespace):
        return f"extra spec '{key[:255]}' does not appear to be a valid extra spec."
    return None
