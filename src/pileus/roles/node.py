"""A node: drivers as the configuration names them, behind the agent; wiring only."""

import logging
import socket
import subprocess
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pileus import __version__
from pileus.compute.drivers import Hypervisor
from pileus.core.config import Config, host_and_port
from pileus.drivers.image_cache import ImageCache
from pileus.http.server import listen
from pileus.metadata.service import MetadataService
from pileus.network.drivers import OwnSwitch
from pileus.node import trust
from pileus.node.agent import Agent, Controllers, Reporter, Watch, listen_unix, name_request, serve
from pileus.node.fencing import Fence
from pileus.node.wire import Tls
from pileus.roles import joining
from pileus.roles.joining import Membership
from pileus.roles.kept import kept
from pileus.volume.drivers import Block

if TYPE_CHECKING:  # drivers are imported by the processes that use them
    from pileus.drivers.block.file.driver import FileBlock
    from pileus.drivers.hypervisor.qemu.driver import QemuHypervisor
    from pileus.drivers.switch.linux import LinuxSwitch

PHYSICAL = "public"  # name of the external network in the API
GIB = 1 << 30
NAMESPACES = Path("/run/netns")
OURS = "made-run-netns"  # marks that the mount on NAMESPACES was not there before
GUEST_SECONDS = 15.0


def node_id(config: Config) -> str:
    """This machine's identity: made once and kept in its state folder, or given when it joined."""
    if member := joining.membership(config):
        return member.node_id
    path = config.folder / "node" / "id"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text(str(uuid.uuid4()))
    return path.read_text().strip()


def build_image_cache(config: Config, member: Membership | None) -> ImageCache:
    """Where images lie as raw files; a node that joined fetches them from its controllers."""
    folder = config.folder / "node" / "images"
    limit = config.image_limit_gib * GIB
    if member is None:
        return ImageCache(folder, config.guest_uid, limit)
    context = trust.calling(trust.identity(joining.folder(config)))
    return ImageCache(folder, config.guest_uid, limit, context, origin=f"{member.url}/node/v1/images")


def build_hypervisor(config: Config, images: ImageCache) -> Hypervisor:
    """The hypervisor driver that the configuration names."""
    folder = config.folder / "node"
    if config.hypervisor == "fake":
        from pileus.drivers.hypervisor import fake

        return kept(folder / "fake-hypervisor", fake.FakeMachine, fake.FakeHypervisor)
    return _qemu(config, images)


def _qemu(config: Config, images: ImageCache) -> "QemuHypervisor":
    from pileus.drivers.hypervisor.qemu.driver import QemuHypervisor

    uid = config.guest_uid
    folder = config.folder / "node" / "hypervisor"
    return QemuHypervisor(folder, uid=uid, gid=uid, images=images, accelerator=config.accelerator)


def build_switch(config: Config) -> OwnSwitch:
    """The switch driver that the configuration names; a network node is wired to the public network."""
    if config.switch == "fake":
        from pileus.drivers.switch import fake

        return kept(config.folder / "node" / "fake-switch", fake.FakeMachine, fake.FakeSwitch)
    return _linux(config)


def _linux(config: Config) -> "LinuxSwitch":
    from pileus.drivers.switch import linux

    physical = {}
    if "network" in config.roles:
        prefix = config.external.cidr.partition("/")[2]
        physical[PHYSICAL] = linux.PhysicalNet(cidrs=(f"{config.external.gateway}/{prefix}",))
    tunnels = config.underlay
    underlay = linux.Underlay(device=tunnels.device, cidr=tunnels.cidr) if tunnels else None
    return linux.LinuxSwitch(config.folder / "node" / "switch", config.namespace, physical, underlay)


def build_block(config: Config, images: ImageCache) -> Block:
    """The block driver that the configuration names."""
    if config.block == "fake":
        from pileus.drivers.block import fake

        own = node_id(config)
        folder = config.folder / "node" / "fake-block"
        return kept(folder, fake.FakeMachine, lambda machine: fake.FakeBlock(machine, own))
    return _files(config, images)


def _files(config: Config, images: ImageCache) -> "FileBlock":
    from pileus.drivers.block.file.driver import FileBlock
    from pileus.drivers.block.file.places import PoolFolder

    pools = {
        name: PoolFolder(
            folder=Path(pool.path) if pool.path else config.folder / "volumes" / name,
            backend=pool.backend,
            capabilities=pool.capabilities,
        )
        for name, pool in config.pools.items()
    }
    address = config.agent_address or config.controller_address
    reached = host_and_port(address)[0] if address else ""
    return FileBlock(pools, config.folder / "node" / "block", images, node_id(config), config.guest_uid, listen=reached)


def prepare(config: Config) -> None:
    """What must stand before anybody may be served: the node's namespace with its external network."""
    (config.folder / "node").mkdir(parents=True, exist_ok=True)
    if config.switch == "linux":
        if not mounted(NAMESPACES):
            (config.folder / "node" / OURS).touch()
        _linux(config).prepare()


def tear_down(config: Config) -> None:
    """End guests, exports and networks and leave the machine as it was; files stay.

    Guests get GUEST_SECONDS to shut down by themselves, and are remembered as lost: they run again when
    the node is back.
    """
    images = build_image_cache(config, joining.membership(config))
    if config.hypervisor == "qemu":
        hypervisor = _qemu(config, images)
        hypervisor.go_down(GUEST_SECONDS)
        hypervisor.close()
    if config.block == "file":
        _files(config, images).close()
    if config.switch == "linux":
        _linux(config).destroy()
        forget_mount(config.folder / "node" / OURS)


def forget_mount(ours: Path) -> None:
    """`ip netns` mounts a folder for names when it makes the first one: take it away if that was for us."""
    if ours.exists() and NAMESPACES.is_dir() and not any(NAMESPACES.iterdir()):
        while mounted(NAMESPACES):
            subprocess.run(["umount", str(NAMESPACES)], check=True)
        NAMESPACES.rmdir()
    ours.unlink(missing_ok=True)


def mounted(path: Path) -> bool:
    """Whether something is mounted there, a folder of the same file system too (proc(5), mountinfo)."""
    return any(line.split()[4] == str(path) for line in Path("/proc/self/mountinfo").read_text().splitlines())


def identity(config: Config) -> dict[str, Any]:
    """What this node says of itself in every report."""
    local = f"unix://{config.agent_socket}"
    return {
        "id": node_id(config),
        "name": config.node_name,
        "url": f"https://{config.agent_address}" if joining.membership(config) else local,
        "endpoint": config.endpoint,
        "roles": list(config.roles),
        "version": __version__,
        "zone": config.zone,
    }


def run_agent(config: Config, member: Membership | None) -> None:
    """The agent process."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(name_request)
    images = build_image_cache(config, member)
    switch = build_switch(config)
    agent = Agent(
        build_hypervisor(config, images), switch, build_block(config, images), Fence(config.folder / "node" / "epochs")
    )
    if member is None:
        serve(agent, listen_unix(config.agent_socket, config.service_uid))
        controllers = Controllers(f"unix://{config.controller_socket}")
    else:
        own = trust.identity(joining.folder(config))
        serve(agent, listen(*host_and_port(config.agent_address)), trust.answering(own))
        controllers = Controllers(member.url, Tls(trust.calling(own)))
    reporter = Reporter(agent, controllers, identity(config), config.report_seconds)
    in_background("metadata", lambda: serve_metadata(switch, controllers))
    in_background("watch", Watch(agent, reporter).run)
    reporter.run()


def serve_metadata(switch: Any, controllers: Controllers) -> None:
    """Answer guests' metadata requests in every network that this node serves, by IPv4 and by IPv6."""
    if not hasattr(switch, "metadata_socket"):
        return

    def segments() -> list[str]:
        return list(switch.list_things().get("segment", ()))

    def by_ipv6(segment_id: str) -> socket.socket:
        found: socket.socket = switch.metadata_socket(segment_id, ipv6=True)
        return found

    never, home = threading.Event(), switch.metadata_home
    second = MetadataService(segments, by_ipv6, controllers.request, home)
    in_background("metadata-ipv6", lambda: second.run(never))
    MetadataService(segments, switch.metadata_socket, controllers.request, home).run(never)


def in_background(name: str, work: Callable[[], None]) -> None:
    """Run for as long as the process lives."""
    threading.Thread(target=work, name=name, daemon=True).start()
