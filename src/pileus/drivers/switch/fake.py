"""FakeSwitch: the Switch Protocol in memory, for tests, simulation and benchmarks.

It keeps the promises of the contract (segments before ports, filters before a port is up, empty
after remove) and can be slow, under way, or fail at any point.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct, field

from pileus.network.drivers import Group, Port, PortSeen, Router, Segment, device_name

Thing = Segment | Port | Group | Router
KINDS = ("segment", "port", "router", "group")


def no_faults(verb: str) -> None:
    """Faults that never come."""


class FakeMachine(Struct):
    """What outlives a FakeSwitch: its wishes (a disk) and what stands (a kernel, lost by `reboot`)."""

    wishes: dict[tuple[str, str], Thing] = field(default_factory=dict)
    standing: dict[tuple[str, str], Thing] = field(default_factory=dict)
    rounds: dict[tuple[str, str], int] = field(default_factory=dict)

    def reboot(self) -> None:
        """Lose all that stands; the wishes stay."""
        self.standing.clear()
        self.rounds.clear()


class FakeSwitch:
    """A switch that carries nothing.

    `faults` is called with the verb's name before and after each effect and may raise.  `latency` is
    in seconds for each call, spent in `sleep`.  `rounds` is how often a thing answers "under way"
    before it stands.
    """

    def __init__(
        self,
        machine: FakeMachine | None = None,
        netns: str = "fake",
        faults: Callable[[str], None] = no_faults,
        latency: float = 0.0,
        sleep: Callable[[float], None] = time.sleep,
        rounds: int = 0,
    ) -> None:
        self.machine = machine if machine is not None else FakeMachine()
        self.faults = faults
        self._netns = netns
        self._latency = latency
        self._sleep = sleep
        self._rounds = rounds
        self._lock = threading.RLock()

    def netns(self) -> str:
        return self._netns

    def prepare(self) -> None:
        """Nothing to make ready."""

    def look_after(self) -> None:
        """Nothing dies by itself here."""

    def destroy(self) -> None:
        """Forget everything."""
        self.machine.wishes.clear()
        self.machine.reboot()

    def ensure_segment(self, segment: Segment) -> bool | None:
        return self._ensure("ensure_segment", "segment", segment)

    def remove_segment(self, segment_id: str) -> bool:
        return self._remove("remove_segment", "segment", segment_id)

    def ensure_port(self, port: Port) -> PortSeen | None:
        if ("segment", port.network_id) not in self.machine.standing:
            return None
        if not self._ensure("ensure_port", "port", port):
            return None
        return PortSeen(id=port.id, device=device_name("tap", port.id), netns=self._netns, up=True)

    def remove_port(self, port_id: str) -> bool:
        return self._remove("remove_port", "port", port_id)

    def ensure_group(self, group: Group) -> bool:
        return bool(self._ensure("ensure_group", "group", group, rounds=0))

    def remove_group(self, group_id: str) -> bool:
        return self._remove("remove_group", "group", group_id)

    def ensure_router(self, router: Router) -> bool | None:
        legs = (*router.legs, *((router.gateway,) if router.gateway else ()))
        if any(("segment", leg.network_id) not in self.machine.standing for leg in legs):
            return None
        return self._ensure("ensure_router", "router", router)

    def remove_router(self, router_id: str) -> bool:
        return self._remove("remove_router", "router", router_id)

    def list_things(self) -> Mapping[str, Sequence[str]]:
        with self._lock:
            known = set(self.machine.wishes) | set(self.machine.standing)
        return {kind: sorted(thing_id for k, thing_id in known if k == kind) for kind in KINDS}

    def _ensure(self, verb: str, kind: str, thing: Thing, rounds: int | None = None) -> bool | None:
        self._pause()
        self.faults(verb)
        key = (kind, thing.id)
        with self._lock:
            self.machine.wishes[key] = thing
            waited = self.machine.rounds.get(key, 0)
            if waited < (self._rounds if rounds is None else rounds):
                self.machine.rounds[key] = waited + 1
                return None
            self.machine.standing[key] = thing
        self.faults(verb)
        return True

    def _remove(self, verb: str, kind: str, thing_id: str) -> bool:
        self._pause()
        self.faults(verb)
        key = (kind, thing_id)
        with self._lock:
            for place in (self.machine.standing, self.machine.wishes, self.machine.rounds):
                place.pop(key, None)
        self.faults(verb)
        return True

    def _pause(self) -> None:
        if self._latency:
            self._sleep(self._latency)
