"""pileus doctor: what this machine lacks for a cloud, and what to type."""

import os
import shutil
from pathlib import Path

from pileus.core.config import Config
from pileus.http.server import listen
from pileus.roles.supervisor import alive

PROGRAMS = {  # program → Debian package
    "qemu-system-x86_64": "qemu-system-x86", "qemu-img": "qemu-utils", "nft": "nftables", "ip": "iproute2",
    "dnsmasq": "dnsmasq-base", "bwrap": "bubblewrap", "genisoimage": "genisoimage", "setpriv": "util-linux",
    "ssh": "openssh-client", "nbdkit": "nbdkit",
}  # fmt: skip


def findings(config: Config) -> list[tuple[str, str, str]]:
    """(level, what was found, what to type) for everything that matters: ok, warning or missing."""
    found = []
    missing = sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None})
    if missing:
        found.append(("missing", f"Debian packages: {', '.join(missing)}", f"apt-get install {' '.join(missing)}"))
    else:
        found.append(("ok", "all programs are installed", ""))
    if os.geteuid() != 0:
        found.append(("missing", "root: the agent makes namespaces, taps and bridges", "sudo pileus up"))
    if not Path("/dev/net/tun").exists():
        found.append(("missing", "/dev/net/tun: guests have no network without it", "modprobe tun"))
    found.append(accelerator(config))
    found += address(config)
    if config.federation.oidc:
        from pileus.identity.facade import check_providers  # a second of start time that few need

        found += check_providers(config)
    if not Path("/usr/share/novnc").exists():
        found.append(("warning", "noVNC: console URLs open no screen", "apt-get install novnc"))
    found += saml(config)
    free = shutil.disk_usage(config.folder if config.folder.exists() else "/").free / 2**30
    if free < 5:
        found.append(("warning", f"{free:.1f} GiB of disk are free; images and volumes need more", ""))
    return found


def saml(config: Config) -> list[tuple[str, str, str]]:
    """What log-ins by SAML lack."""
    found = []
    if shutil.which("xmlsec1") is None:
        found.append(("warning", "xmlsec1: nobody logs in by SAML", "apt-get install xmlsec1"))
    for idp_id, provider in config.federation.saml.providers.items():
        try:
            Path(provider.metadata).read_bytes()
        except OSError as error:
            found.append(("warning", f"the metadata of {idp_id} cannot be read: {error}", "docs/federation.md"))
    return found


def address(config: Config) -> list[tuple[str, str, str]]:
    """Whether the API's address is free, when Pileus does not run."""
    if alive(config.folder / "run"):
        return [("ok", f"Pileus runs: {config.url}", "")]
    try:
        listen(config.listen, config.port).close()
    except OSError as error:
        cure = "stop what listens there, or set PILEUS_PORT"
        return [("missing", f"the API cannot listen on {config.listen} port {config.port}: {error.strerror}", cure)]
    return []


def accelerator(config: Config) -> tuple[str, str, str]:
    """KVM is used only where a probe guest really ran under it."""
    from pileus.drivers.hypervisor.qemu.accelerator import probe_kvm

    if probe_kvm():
        return ("ok", "KVM works: a probe guest ran under it", "")
    cure = "enable virtualization (nested, if this is a virtual machine), then: modprobe kvm_intel or kvm_amd"
    return ("warning", "KVM cannot be used: guests run under TCG, ten times slower", cure)


def doctor(config: Config, _arguments: list[str]) -> int:
    """Print what was found; 1 when something needed is missing."""
    found = findings(config)
    for level, what, command in found:
        print(f"{level:<8} {what}")
        if command:
            print(f"         type: {command}")
    return int(any(level == "missing" for level, _, _ in found))
