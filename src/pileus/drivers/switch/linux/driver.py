"""LinuxSwitch: the Switch Protocol on Linux bridges, VXLAN, nftables, dnsmasq and namespaces.

All of a node lives in one namespace of its own: bridges, taps, tunnels, the node's end of external
networks.  Each router and each network's DHCP has a namespace beside it, named after the node's
(`NETNS-r-ID`, `NETNS-d-ID`).  Every ensure is level-triggered: it makes what is missing and
corrects what differs, after a kill, a restart of the agent, or a reboot of the machine.
"""

import logging
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from pileus.network.drivers import Group, Leg, Port, PortSeen, Router, Segment

from . import dhcp, dnsmasq, filters, flows, links, names, namespaces, router, serving
from .links import PhysicalNet, Underlay
from .namespaces import SwitchError, T
from .records import Record, Shelf

log = logging.getLogger(__name__)

RUN = Path("/run/pileus-switch")
W = TypeVar("W", Segment, Router)


class LinuxSwitch:
    """The switch of one node.

    `state_dir`: its wishes, kept over restarts.  `netns`: the node's namespace, made if absent.
    `physical`: external networks by the name that flat segments use.  `underlay`: the device for
    tunnels to other nodes (none on a single node).  `run_dir`: files that dnsmasq's own user must be
    able to read, so outside of folders closed to it; /run/pileus-switch/NETNS unless given.
    Safe to call from many threads; calls about one thing wait for each other.
    """

    def __init__(
        self,
        state_dir: Path,
        netns: str = "pileus",
        physical: Mapping[str, PhysicalNet] | None = None,
        underlay: Underlay | None = None,
        run_dir: Path | None = None,
    ) -> None:
        self._netns = names.check_id(netns)
        self._physical = dict(physical or {})
        self._underlay = underlay
        self._state_dir = state_dir
        self._run_dir = run_dir or RUN / netns
        self._segments = Shelf(state_dir / "segments", Segment)
        self._ports = Shelf(state_dir / "ports", Port)
        self._groups = Shelf(state_dir / "groups", Group)
        self._routers = Shelf(state_dir / "routers", Router)
        self._locks: dict[tuple[str, str], threading.RLock] = {}
        self._guard = threading.RLock()  # for the table of locks, and for prepare
        self._nft_lock = threading.Lock()
        self._prepared = False

    def netns(self) -> str:
        return self._netns

    # --- the node -------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the node's namespace, its filters and external networks; again and again without harm."""
        with self._guard:
            self._run_dir.mkdir(parents=True, exist_ok=True)
            self._run_dir.chmod(0o755)
            namespaces.ensure(self._netns)
            if self._underlay and not self._inside(lambda: self._has(self._underlay)):
                namespaces.ip([f"link set {names.check_device(self._underlay.device)} netns {self._netns}"])
            self._inside(self._prepare_inside)
            self._prepared = True

    @staticmethod
    def _has(underlay: Underlay | None) -> bool:
        return underlay is not None and namespaces.exists_here(underlay.device)

    def _prepare_inside(self) -> None:
        links.quiet_devices(ipv6=False)
        for setting in ("call-iptables", "call-ip6tables"):
            namespaces.sysctl(f"bridge/bridge-nf-{setting}", 1)
        namespaces.sysctl("ipv4/ip_forward", 0)
        namespaces.sysctl("ipv6/conf/all/forwarding", 0)
        namespaces.sysctl("ipv4/conf/default/arp_ignore", 8)  # devices of the node answer no ARP
        reachable = {names.physical_device(name): net.reachable for name, net in self._physical.items()}
        zones = {names.physical_bridge(name): self._physical_zone(name) for name in self._physical}
        with self._nft_lock:
            namespaces.nft(filters.base(reachable, zones))
        self._drop_stale_groups(self._groups_in_filters())  # of an agent that was killed before it came to it
        for name, net in self._physical.items():
            links.wire_physical(name, net)
        if self._underlay:
            device = self._underlay.device
            namespaces.sysctl(f"ipv4/conf/{device}/arp_ignore", 1)
            namespaces.ip([f"link set {device} up"])
            links.set_addresses(device, [names.interface(self._underlay.cidr)])

    def _physical_zone(self, physical: str) -> int:
        return names.FIRST_PHYSICAL_ZONE + sorted(self._physical).index(physical)

    def destroy(self) -> None:
        """Remove every namespace, device, process and file of this driver."""
        with self._guard:
            folders = self._run_dir.iterdir() if self._run_dir.is_dir() else ()
            for folder in [*folders]:
                dnsmasq.remove(folder)
            shutil.rmtree(self._run_dir, ignore_errors=True)
            with suppress(OSError):  # absent, or in use by another node of this machine
                RUN.rmdir()
            if namespaces.exists(self._netns):
                self._inside(_remove_all_links)
                self._return_underlay()
            for name in (*namespaces.listed(f"{self._netns}-r-"), *namespaces.listed(f"{self._netns}-d-")):
                namespaces.remove(name)
            namespaces.remove(self._netns)
            shutil.rmtree(self._state_dir, ignore_errors=True)
            self._prepared = False
            self._segments = Shelf(self._state_dir / "segments", Segment)
            self._ports = Shelf(self._state_dir / "ports", Port)
            self._groups = Shelf(self._state_dir / "groups", Group)
            self._routers = Shelf(self._state_dir / "routers", Router)
            shutil.rmtree(self._state_dir, ignore_errors=True)

    def _return_underlay(self) -> None:
        """Give the tunnels' device back to the agent's namespace: a virtual one would die with the node's."""
        if self._underlay and self._inside(lambda: self._has(self._underlay)):
            line = f"link set {names.check_device(self._underlay.device)} netns {os.getpid()}"
            self._inside(lambda: namespaces.ip([line]))

    # --- segments -------------------------------------------------------------------------------------

    def ensure_segment(self, segment: Segment) -> bool | None:
        """The network on this node.

        A host whose entry could be more than one line of a file is left out and named in a
        ValueError, after everybody else is served.
        """
        names.check_id(segment.id)
        if segment.kind == "flat" and segment.physical not in self._physical:
            raise ValueError(f"segment {segment.id}: this node has no physical network {segment.physical!r}")
        folder = self._run_dir / f"d-{segment.id}"
        served = dhcp.segment(segment, str(folder)) if segment.serves else None
        with self._ready("segment", segment.id):
            record = self._segments.begin(segment)
            bridge = self._bridge(segment)
            if segment.kind == "vxlan":
                self._inside(lambda: self._build_bridge(segment, bridge, record.number))
            if served is None:
                self._stop_serving(segment.id)
            else:
                self._serve(segment, bridge, folder, served)
            self._segments.finish(record)
        if served is not None and served.refused:
            raise ValueError("; ".join(served.refused))
        return True

    def _bridge(self, segment: Segment) -> str:
        flat = segment.kind == "flat"
        return names.physical_bridge(segment.physical) if flat else names.bridge(segment.id)

    def _build_bridge(self, segment: Segment, bridge: str, zone: int) -> None:
        self._nft(filters.zone_element(bridge, zone))
        links.ensure_bridge(bridge, segment.mtu)
        links.ensure_vxlan(segment, bridge)

    def _serve(self, segment: Segment, bridge: str, folder: Path, served: dhcp.Served) -> None:
        space = f"{self._netns}-d-{segment.id}"
        mac = names.check_mac(segment.dhcp_mac)
        namespaces.ensure(space)
        namespaces.inside(space, lambda: links.quiet_devices(ipv6=True))
        plug = names.dhcp_plug(segment.id)
        device = names.DHCP_DEVICE
        self._inside(lambda: links.ensure_pair(plug, bridge, segment.mtu, space, device, mac))
        namespaces.inside(space, lambda: serving.address(segment))
        dnsmasq.ensure(folder, space, served, dhcp.addresses_of(segment.hosts))

    def _stop_serving(self, segment_id: str) -> None:
        dnsmasq.remove(self._run_dir / f"d-{segment_id}")
        plug = names.dhcp_plug(segment_id)
        self._inside(lambda: links.remove_link(plug))
        namespaces.remove(f"{self._netns}-d-{segment_id}")

    def remove_segment(self, segment_id: str) -> bool:
        names.check_id(segment_id)
        with self._ready("segment", segment_id):
            record = self._segments.get(segment_id)
            self._stop_serving(segment_id)
            self._inside(lambda: self._unbuild_bridge(segment_id, record))
            self._segments.drop(segment_id)
        return True

    def _unbuild_bridge(self, segment_id: str, record: Record[Segment] | None) -> None:
        bridge = names.bridge(segment_id)
        links.remove_link(names.vxlan(segment_id))
        links.remove_link(bridge)
        if record and record.number:
            zone = record.number
            flows.forget([flow for flow in flows.listed() if flow.zone == zone])
            self._nft(filters.drop_zone(bridge, zone))

    def metadata_socket(self, segment_id: str, *, ipv6: bool = False) -> socket.socket:
        """A listening TCP socket on the metadata address of a segment that this node serves.

        169.254.169.254:80, or with `ipv6` [fe80::a9fe:a9fe]:80.  OSError where the segment is not
        served here.  Close it before the segment is removed: it keeps the namespace's memory.
        """
        space = f"{self._netns}-d-{names.check_id(segment_id)}"
        return namespaces.inside(space, lambda: serving.listen(ipv6=ipv6))

    def metadata_home(self, segment_id: str) -> int:
        """Which namespace that socket would be in: another number after it was made anew, 0 where there is none."""
        try:
            return (namespaces.FOLDER / f"{self._netns}-d-{names.check_id(segment_id)}").stat().st_ino
        except FileNotFoundError:
            return 0

    # --- ports ----------------------------------------------------------------------------------------

    def ensure_port(self, port: Port) -> PortSeen | None:
        names.check_id(port.id)
        filters.port(port, 1)  # a bad value is refused before anything is touched
        segment_record = self._segments.get(port.network_id)
        if segment_record is None or segment_record.spec is None:
            return None
        bridge = self._bridge(segment_record.spec)
        with self._ready("port", port.id):
            if not self._inside(lambda: namespaces.exists_here(bridge)):
                return None
            old = self._ports.get(port.id)
            record = self._ports.begin(port)
            self._inside(lambda: self._build_port(port, record.number, bridge))
            if old is not None and not record.done:
                self._recut({port.network_id})
                self._drop_stale_groups(self._groups_before(old))
            self._ports.finish(record)
        return PortSeen(id=port.id, device=names.tap(port.id), netns=self._netns, up=True)

    def _groups_before(self, old: Record[Port]) -> set[str]:
        """Ids of the groups that a port's rules may have named; any, where its last change was cut short."""
        if old.done and old.spec is not None:
            return filters.groups_of(old.spec)
        return self._inside(self._groups_in_filters)

    def _build_port(self, port: Port, number: int, bridge: str) -> None:
        """Filters first, so that the tap is never in its bridge without them."""
        tap = names.tap(port.id)
        macs = filters.allowed_sources(port)
        foreign = len(macs) > 1  # a shared virtual MAC may be elsewhere: learn it instead
        self._nft(filters.port(port, number))
        links.ensure_tap(tap)
        flood = foreign or not port.port_security
        links.join_tap(tap, bridge, port.mtu, [names.check_mac(port.mac)], flood=flood)

    def remove_port(self, port_id: str) -> bool:
        names.check_id(port_id)
        with self._ready("port", port_id):
            record = self._ports.get(port_id)
            self._inside(lambda: self._unbuild_port(port_id, record))
            self._ports.drop(port_id)
            if record is not None and record.spec is not None:
                self._drop_stale_groups(filters.groups_of(record.spec))
        return True

    def _unbuild_port(self, port_id: str, record: Record[Port] | None) -> None:
        links.remove_link(names.tap(port_id))
        if record is None or not record.number:
            return
        self._nft(filters.drop_port(port_id, record.number))
        if record.spec is not None:
            zone, nets = self._zone(record.spec.network_id), filters.port_nets(record.spec)
            flows.forget([f for f in flows.listed() if f.zone == zone and flows.touches(f, nets)])

    def _zone(self, network_id: str) -> int:
        record = self._segments.get(network_id)
        if record is None or record.spec is None:
            return -1
        return self._physical_zone(record.spec.physical) if record.spec.kind == "flat" else record.number

    def _recut(self, network_ids: set[str]) -> None:
        """Cut the flows of these networks that the rules no longer allow; free those they allow again."""
        members = {group.id: group.addresses for group in self._groups.specs()}
        found = self._inside(flows.listed)
        cut: list[flows.Flow] = []
        free: list[flows.Flow] = []
        for network_id in network_ids:
            zone = self._zone(network_id)
            ports = [port for port in self._ports.specs() if port.network_id == network_id]
            to_cut, to_free = flows.judge([f for f in found if f.zone == zone], ports, members)
            cut += to_cut
            free += to_free
        if cut or free:
            self._inside(lambda: flows.mark(cut, filters.CUT))
            self._inside(lambda: flows.mark(free, 0))

    # --- groups ---------------------------------------------------------------------------------------

    def ensure_group(self, group: Group) -> bool:
        text = filters.group(group)
        with self._ready("group", group.id):
            record = self._groups.begin(group)
            self._inside(lambda: self._nft(text))
            if not record.done:
                self._recut(self._networks_naming(group.id))
            self._groups.finish(record)
        return True

    def remove_group(self, group_id: str) -> bool:
        """Forget a group; as long as a port's rules name it, it stays in the filters without members."""
        empty = filters.group(Group(id=names.check_id(group_id), addresses=()))
        with self._ready("group", group_id):
            if networks := self._networks_naming(group_id):
                self._inside(lambda: self._nft(empty))
            self._groups.drop(group_id)
            self._recut(networks)
            self._drop_stale_groups({group_id})  # the last port that names it may be going at this moment
        return True

    def _networks_naming(self, group_id: str) -> set[str]:
        return {port.network_id for port in self._ports.specs() if group_id in filters.groups_of(port)}

    def _groups_in_filters(self) -> set[str]:
        """Ids of groups that have sets, in the namespace of the calling thread."""
        return filters.groups_in(namespaces.run(["nft", "list", "sets", "inet"]))

    def _drop_stale_groups(self, group_ids: set[str]) -> None:
        """Remove the sets of groups that neither a wish nor a port's rules name."""
        with self._nft_lock:
            for group_id in group_ids:
                if self._groups.get(group_id) is None and not self._networks_naming(group_id):
                    text = filters.drop_group(group_id)
                    try:
                        self._inside(lambda text=text: namespaces.nft(text))  # type: ignore[misc]  # the default binds the loop's value, whose type mypy does not infer
                    except SwitchError as error:  # a chain that is still to be changed names it: the next one's work
                        log.info("the sets of group %s stay: %s", group_id, error)

    # --- routers --------------------------------------------------------------------------------------

    def ensure_router(self, wish: Router) -> bool | None:
        """The router on this node; None while a network of it does not stand here."""
        names.check_id(wish.id)
        router.check(wish)
        bridges = self._leg_bridges(wish)
        if bridges is None:
            return None
        space, folder = f"{self._netns}-r-{wish.id}", self._run_dir / f"r-{wish.id}"
        with self._ready("router", wish.id):
            record = self._routers.begin(wish)
            namespaces.ensure(space)
            namespaces.inside(space, router.settle)
            wanted = router.devices(wish)
            namespaces.inside(space, lambda: _remove_legs({device for _, _, device in wanted}))
            self._inside(lambda: _plug_legs(wish, space, bridges))
            namespaces.inside(space, lambda: router.configure(wish, changed=not record.done))
            self._advertise(wish, space, folder)
            self._routers.finish(record)
        return True

    def _leg_bridges(self, wish: Router) -> dict[str, str] | None:
        """Network id → bridge of every leg, None where one is missing."""
        found = {}
        for leg, _, _ in router.devices(wish):
            record = self._segments.get(leg.network_id)
            if record is None or record.spec is None or not record.done:
                return None
            found[leg.network_id] = self._bridge(record.spec)
        if not namespaces.exists(self._netns):
            return None
        stand = self._inside(lambda: all(namespaces.exists_here(bridge) for bridge in found.values()))
        return found if stand else None

    def _advertise(self, wish: Router, space: str, folder: Path) -> None:
        legs = _advertising(wish)
        if not legs:
            dnsmasq.remove(folder)
            return
        served = dhcp.router(legs, [names.leg(leg.port_id) for leg in legs], str(folder))
        dnsmasq.ensure(folder, space, served, {})

    def remove_router(self, router_id: str) -> bool:
        space = f"{self._netns}-r-{names.check_id(router_id)}"
        with self._ready("router", router_id):
            dnsmasq.remove(self._run_dir / f"r-{router_id}")
            if namespaces.exists(space):
                namespaces.inside(space, lambda: _remove_legs(set()))
            namespaces.remove(space)
            self._routers.drop(router_id)
        return True

    # --- all of it ------------------------------------------------------------------------------------

    def look_after(self) -> None:
        """Start each dnsmasq anew that died by itself, or was not told of a change by an agent that was killed."""
        for segment in self._segments.specs():
            if segment.serves:
                self._revive("segment", f"d-{segment.id}", segment.id, self._segments, self.ensure_segment)
        for wish in self._routers.specs():
            if _advertising(wish):
                self._revive("router", f"r-{wish.id}", wish.id, self._routers, self.ensure_router)

    def _revive(self, kind: str, folder: str, thing: str, shelf: Shelf[W], ensure: Callable[[W], object]) -> None:
        """Make a thing anew if its dnsmasq ails while nobody else is at work on it."""
        if not dnsmasq.ails(self._run_dir / folder):
            return
        with self._ready(kind, thing):
            record = shelf.get(thing)
            if record is None or record.spec is None or not dnsmasq.ails(self._run_dir / folder):
                return
            log.warning("the dnsmasq of %s %s ended, or was not told of a change: started anew", kind, thing)
            try:
                ensure(record.spec)
            except (OSError, ValueError, SwitchError) as error:
                log.warning("%s %s: %s", kind, thing, error)

    def list_things(self) -> Mapping[str, Sequence[str]]:
        """Ids of what was wished here and not yet removed, and of namespaces that nobody remembers."""
        spaces = {
            kind: {name[len(prefix) :] for name in namespaces.listed(prefix)}
            for kind, prefix in (("segment", f"{self._netns}-d-"), ("router", f"{self._netns}-r-"))
        }
        return {
            "segment": sorted({record.id for record in self._segments.all()} | spaces["segment"]),
            "port": sorted(record.id for record in self._ports.all()),
            "router": sorted({record.id for record in self._routers.all()} | spaces["router"]),
            "group": sorted(record.id for record in self._groups.all()),
        }

    @contextmanager
    def _ready(self, kind: str, thing_id: str) -> Iterator[None]:
        """The lock of one thing, on a node that stands."""
        with self._guard:
            if not self._prepared or not namespaces.exists(self._netns):
                self.prepare()
            lock = self._locks.setdefault((kind, thing_id), threading.RLock())
        with lock:
            yield

    def _inside(self, work: Callable[[], T]) -> T:
        return namespaces.inside(self._netns, work)

    def _nft(self, text: str) -> None:
        """One transaction; if somebody removed the tables under it, they are made again and it is repeated."""
        with self._nft_lock:
            try:
                namespaces.nft(text)
                return
            except SwitchError as error:
                if "No such file or directory" not in str(error):
                    raise
        self.prepare()
        with self._nft_lock:
            namespaces.nft(text)


def _advertising(wish: Router) -> list[Leg]:
    """The legs on which a router advertises prefixes."""
    return [leg for leg in wish.legs if leg.advertise and wish.admin_up]


def _plug_legs(wish: Router, space: str, bridges: Mapping[str, str]) -> None:
    for leg, plug, device in router.devices(wish):
        links.ensure_pair(plug, bridges[leg.network_id], leg.mtu, space, device, names.check_mac(leg.mac))


def _links_here() -> list[str]:
    found = namespaces.run_json(["ip", "-json", "link", "show"])
    return [str(entry["ifname"]) for entry in found]


def _remove_legs(keep: set[str]) -> None:
    """Remove the legs of the router whose namespace this is; their other ends go with them."""
    for name in _links_here():
        if name != "lo" and name not in keep:
            links.remove_link(name)


def _remove_all_links() -> None:
    """Remove every device that we make (a tunnel's or network's own device goes back to its machine)."""
    ours = ("br", "vx", "tap", "dh", "qr", "ex-", "gp-", "gw-")
    for name in _links_here():
        if name.startswith(ours):
            links.remove_link(name)
