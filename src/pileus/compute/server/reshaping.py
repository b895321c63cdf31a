"""Changes of a server's disks and size, for which its guest must be off: rebuild, rescue, resize, revert.

Each gives local disks a new generation of names (or takes one back) before anything is built on it.
"""

from pileus.compute.server.outside import Act, NoValidHost, World
from pileus.compute.server.whole import Whole
from pileus.core.reconcile import Outcome, Wait


def next_change(whole: Whole) -> Act | None:
    """What of the wish concerns disks or size and is not begun yet."""
    server, migration = whole.server, whole.migration
    if migration is not None and migration.state == "queued":
        return resize
    if migration is not None and migration.state == "finished" and migration.wish == "revert":
        return revert
    if server.rebuilds != server.rebuilds_seen:
        return rebuild
    if (server.rescue is not None) != server.rescued:
        return turn_rescue
    return None


def new_generation(whole: Whole) -> None:
    """Local disks with new names; those before stay until the guest no longer has them."""
    server = whole.server
    server.generations += 1
    server.generation = server.generations
    server.copied_from, server.kept = None, None


def rebuild(whole: Whole, world: World) -> Outcome | None:
    """Root disk anew from the image; a root volume gets the image's bytes."""
    server = whole.server
    if server.rebuild_image is not None and (why := world.reimage_root(whole)):
        return Wait(1.0, why)
    new_generation(whole)
    server.root_image, server.rebuilds_seen = server.image_id, server.rebuilds
    whole.tell("step", f"rebuilding from image {server.rebuild_image or server.image_id}")
    return None


def turn_rescue(whole: Whole, world: World) -> None:
    """Into rescue with a disk of its own, or out of it."""
    server = whole.server
    server.rescued = not server.rescued
    server.rescues += int(server.rescued)


def resize(whole: Whole, world: World) -> None:
    """The new size on copies of the disks; the old ones stay until it is confirmed."""
    server, migration = whole.server, whole.migration
    assert migration is not None
    try:
        world.claim_new_size(whole)
    except NoValidHost as error:
        migration.state, migration.updated_at = "error", world.now()
        whole.tell("error", str(error))
        return
    migration.old_generation = server.generation
    new_generation(whole)
    server.copied_from = server.kept = migration.old_generation
    whole.size(migration.new_flavor)
    migration.source_node = migration.dest_node = server.node_id
    migration.source_name = migration.dest_name = server.node_name
    migration.state, migration.updated_at = "migrating", world.now()
    whole.tell("step", f"resizing to {migration.new_flavor.name} on {server.node_name}")


def revert(whole: Whole, world: World) -> None:
    """Back to the old size, disks and claim."""
    server, migration = whole.server, whole.migration
    assert migration is not None
    world.restore_claim(whole)
    server.generation, server.built = migration.old_generation, migration.old_generation
    server.copied_from, server.kept = None, None
    whole.size(migration.old_flavor)
    migration.state, migration.updated_at = "reverting", world.now()
