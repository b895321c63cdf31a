"""What extra specs may say."""

import pytest

from pileus.compute.extra_specs import misspelt


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hw:cpu_policy", "dedicated"),
        ("hw:numa_nodes", "2"),
        ("hw:numa_cpus.1", "0-3,^2"),
        ("hw:mem_page_size", "2MB"),
        ("hw:cpu_realtime_mask", "^0-1"),
        ("hw:boot_menu", "yes"),
        ("hw_rng:allowed", "False"),
        ("quota:cpu_quota", "-1"),
        ("quota:disk_read_iops_sec", "0"),
        ("resources:VCPU", "0"),
        ("resources_X:CUSTOM_GOLD", "1"),
        ("trait:HW_CPU_X86_AVX", "required"),
        ("trait1:CUSTOM_A", "forbidden"),
        ("aggregate_instance_extra_specs:ssd", "x"),
        ("capabilities:cpu_info:arch", "x86_64"),
        ("pci_passthrough:alias", "a1:2,b1:1"),
        ("own", "anything"),
        ("mine:own", "anything"),
        ("hw_video:ram_max_mb", "16"),
        ("group_policy", "none"),
    ],
)
def test_what_makes_sense_passes(key: str, value: str) -> None:
    assert misspelt(key, value) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hw:cpu_policy", "x"),
        ("hw:cpu_polcy", "dedicated"),
        ("hw:numa_nodes", "0"),
        ("hw:numa_nodes", "two"),
        ("hw:numa_cpus.a", "0"),
        ("hw:mem_page_size", "huge"),
        ("hw:boot_menu", "maybe"),
        ("hw_rng:rate_bytes", "-1"),
        ("trait:HW_CPU_X86_AVX", "yes"),
        ("resources:VCPU", "many"),
        ("resources:vcpu", "1"),
        ("quota:fun", "1"),
        ("pci_passthrough:alias", "a1"),
        ("hw:redirected_usb_ports", "16"),
        ("hw:serial_port_count", "9" * 30),
    ],
)
def test_what_makes_none_is_named(key: str, value: str) -> None:
    why = misspelt(key, value)
    assert why is not None and key in why
