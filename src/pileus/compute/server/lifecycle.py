"""The life of a server on one page: what it needs, in which order, and how each is given back.

`step` does the one next thing that is missing, decided from wish and status alone.  Building and every
change walk STAGES downwards, leaving a node walks them upwards, so changes of mind need no branch of
their own.  Whatever is chosen (a node, a new generation of disks) is saved before anything is built on it.
"""

from dataclasses import dataclass

from pileus.compute.drivers import Broken, GuestSeen, Refused
from pileus.compute.server.outside import Act, NoValidHost, World
from pileus.compute.server.reshaping import new_generation, next_change, revert
from pileus.compute.server.rows import Fault, Seen
from pileus.compute.server.states import failed, wanted_power
from pileus.compute.server.whole import Whole
from pileus.core.reconcile import AGAIN, GONE, REST, Outcome, Wait

HOLDS = "the guest has not let go of"
UNPLUG_PATIENCE = 180.0  # seconds; a guest must take part in the removal of a device


@dataclass(frozen=True)
class Stage:
    """One thing that a server needs: how it is had and how it is given back; None: done."""

    task: str  # shown as task_state while a server is built
    up: Act
    down: Act


# --- having -----------------------------------------------------------------------------------------


def placed(whole: Whole, world: World) -> Outcome | None:
    """A node is claimed."""
    server = whole.server
    if server.node_id is not None:
        return None
    place = world.place(whole)
    server.node_id, server.node_name, server.node_zone = place.node_id, place.name, place.zone
    whole.tell("step", f"scheduled to {place.name}")
    return AGAIN


def bound(whole: Whole, world: World) -> Outcome | None:
    """Every port is ready on the node."""
    why = world.bind_ports(whole)
    return Wait(2.0, why, patience=300.0) if why else None


def connected(whole: Whole, world: World) -> Outcome | None:
    """Every volume can be opened on the node."""
    why = world.connect_volumes(whole)
    return Wait(2.0, why, patience=3600.0) if why else None


def reshaped(whole: Whole, world: World) -> Outcome | None:
    """Disks and size are those of the wish; they change only while the guest is off."""
    change = next_change(whole)
    if change is None:
        return None
    if whole.server.seen.power not in ("", "off"):
        seen = world.ensure(whole, "off")
        if seen is None or seen.power not in ("off", "crashed"):
            return Wait(0.5, "the guest is shutting down")
        look(whole, seen)
    return change(whole, world) or AGAIN


def running(whole: Whole, world: World) -> Outcome | None:
    """The guest is what it should be, in every respect."""
    why = world.images_ready(whole)
    if why:
        return Wait(0.5, why, patience=3600.0)
    if ended_by_itself(whole, world):
        whole.server.halted = whole.server.starts
        whole.tell("step", "the guest shut itself down")
    power = wanted_power(whole.server)
    seen = world.ensure(whole, power)
    if seen is None:
        held = leaving_devices(whole)
        return Wait(0.3, f"{HOLDS} {held[0]}", UNPLUG_PATIENCE) if held else Wait(0.3, "the node is at work")
    look(whole, seen)
    if (seen.power, seen.resets, seen.reboots) != (power, whole.server.resets, whole.server.reboots):
        return Wait(0.5, f"the guest is {seen.power}, {power} is wanted")
    world.settle(whole, seen)
    if held := leaving_devices(whole):
        return Wait(1.0, f"{HOLDS} {held[0]}", UNPLUG_PATIENCE)
    arrived(whole, world)
    return None


def leaving_devices(whole: Whole) -> list[str]:
    """Ports and volumes that the guest shall let go of."""
    return [nic.port_id for nic in whole.nics if nic.detach] + [v.volume_id for v in whole.volumes if v.detach]


# --- giving back ------------------------------------------------------------------------------------


def unplaced(whole: Whole, world: World) -> Outcome | None:
    """No claim stands."""
    if whole.server.deleted:
        world.drop_shelve_image(whole)
    world.unplace(whole)
    return None


def unbound(whole: Whole, world: World) -> Outcome | None:
    """No port is on the node; of a deleted server none is left."""
    if whole.server.deleted:
        world.give_up_ports(whole)
    elif whole.server.node_id is not None:
        world.unbind_ports(whole)
    return None


def disconnected(whole: Whole, world: World) -> Outcome | None:
    """No volume is open on the node; a deleted server has none."""
    if whole.server.deleted:
        why = world.give_up_volumes(whole)
        return Wait(2.0, why) if why else None
    world.disconnect_volumes(whole)
    return None


def unchanged(whole: Whole, world: World) -> Outcome | None:
    """Images being made of a server that is deleted are given up; nothing else of a change needs undoing."""
    why = world.cancel_snapshots(whole) if whole.server.deleted else ""
    return Wait(1.0, why) if why else None


def removed(whole: Whole, world: World) -> Outcome | None:
    """The node has no trace of the guest."""
    server = whole.server
    if server.node_id is not None and not world.remove_guest(whole):
        return Wait(0.3, "the guest is being removed")
    server.seen = Seen()
    return None


STAGES = (
    Stage("scheduling", placed, unplaced),
    Stage("networking", bound, unbound),
    Stage("block_device_mapping", connected, disconnected),
    Stage("spawning", reshaped, unchanged),
    Stage("spawning", running, removed),
)


# --- what was seen ----------------------------------------------------------------------------------


def look(whole: Whole, seen: GuestSeen) -> None:
    """Remember how the guest is."""
    server = whole.server
    server.seen = Seen(power=seen.power, resets=seen.resets, reboots=seen.reboots, started_at=seen.started_at)
    if seen.power == "on":
        server.starts_seen = server.starts


def ended_by_itself(whole: Whole, world: World) -> bool:
    """Whether the guest shut down from inside since it was last seen to run; a lost node is no such end."""
    server = whole.server
    if server.seen.power not in ("on", "paused") or wanted_power(server) != "on":
        return False
    if (server.starts, server.resets, server.reboots) != (server.starts_seen, server.seen.resets, server.seen.reboots):
        return False
    seen = world.observe(whole)
    return seen is not None and seen.power == "off" and seen.ended == "guest"


def arrived(whole: Whole, world: World) -> None:
    """All that was wanted is there."""
    server, migration = whole.server, whole.migration
    server.built = server.generation
    server.copied_from = None
    if server.launched_at is None:
        server.launched_at = world.now()
    server.refused, server.fault = [], None
    if migration is not None:
        if migration.state == "finished" and migration.wish == "confirm":
            world.drop_old_claim(whole)
            server.kept = None
        ends = {"migrating": "finished", "reverting": "reverted"}
        if migration.state == "finished" and migration.wish == "confirm":
            migration.state = "confirmed"
        migration.state = ends.get(migration.state, migration.state)  # type: ignore[assignment]  # the table's values are states
        migration.updated_at = world.now()
    if server.shelved_seen and not server.shelved:
        world.drop_shelve_image(whole)
        server.shelved_seen = ""


# --- shelving ---------------------------------------------------------------------------------------


def shelve(whole: Whole, world: World) -> Outcome:
    """Off, an image of the root disk made, then gone from the node."""
    server = whole.server
    if not server.shelved_seen:
        if server.seen.power not in ("", "off"):
            seen = world.ensure(whole, "off")
            if seen is None or seen.power not in ("off", "crashed"):
                return Wait(0.5, "the guest is shutting down")
            look(whole, seen)
            return AGAIN
        state = world.shelve_image_state(whole)
        if state == "gone":
            raise Broken("the image of the shelved server could not be made")
        if not state:
            return Wait(2.0, "the image of the server is being made", patience=3600.0)
        server.shelved_seen = "shelved"
        return AGAIN
    if server.shelved == server.shelved_seen:
        world.settle(whole, None)
        return REST
    return leave(whole, world) or offloaded(whole)


def offloaded(whole: Whole) -> Outcome:
    """Nothing is on any node; the next disks will come from the image."""
    server = whole.server
    new_generation(whole)
    server.root_image = server.shelve_image or server.image_id
    server.shelved_seen = "offloaded"
    return AGAIN


# --- the step ---------------------------------------------------------------------------------------


def leave(whole: Whole, world: World) -> Outcome | None:
    """Give back all that is tied to the node, last things first."""
    for stage in reversed(STAGES):
        if outcome := stage.down(whole, world):
            return outcome
    server = whole.server
    server.node_id = server.node_name = server.node_zone = None
    server.leaving = False
    return None


def step(whole: Whole, world: World) -> Outcome:
    """Do the one next thing for this server and say when to look again."""
    server = whole.server
    if server.deleted:
        return leave(whole, world) or GONE
    if server.leaving:
        server.task = "scheduling"
        return leave(whole, world) or AGAIN
    if failed(server) or server.broken:
        return REST
    try:
        if server.shelved:
            return shelve(whole, world)
        for stage in STAGES:
            server.task = stage.task
            if outcome := stage.up(whole, world):
                return outcome
    except Refused as refusal:
        return refused(whole, world, str(refusal))
    except (Broken, NoValidHost) as fault:
        return fail(whole, world, str(fault))
    server.task = None
    return REST if next_change(whole) is None and server.shelved == server.shelved_seen else AGAIN


def refused(whole: Whole, world: World, why: str) -> Outcome:
    """A node said no: remember it and look for another, unless the server already lives there."""
    server = whole.server
    if server.launched_at is not None and not server.shelved_seen:
        return fail(whole, world, why)
    server.refused = [*server.refused, (server.node_id or "", f"{server.node_name}: {why}")]
    server.leaving = True
    whole.tell("refused", f"{server.node_name}: {why}")
    return AGAIN


def fail(whole: Whole, world: World, why: str) -> Outcome:
    """Nothing more is tried before somebody asks for it; a resize that fails is taken back."""
    server, migration = whole.server, whole.migration
    if migration is not None and migration.state == "migrating":
        revert(whole, world)
        migration.state = "error"
        whole.tell("error", why)
        return AGAIN
    server.fault = Fault(message=why, at=world.now(), code=500)
    server.failed_try = server.tries
    server.task, server.refused = None, []
    whole.tell("error", why)
    return REST


def overdue(whole: Whole, why: str) -> Outcome:
    """What was waited for did not come in time; a guest that keeps a device is none the worse for it."""
    server = whole.server
    if why.startswith(HOLDS):
        whole.tell("error", f"{why}: stop the server, or ask again")
        return REST
    server.fault = Fault(message=f"Timed out: {why}", at=0.0)
    server.failed_try = server.tries
    server.task = None
    whole.tell("error", why)
    return REST
