"""The states that the API shows follow from wish and status alone."""

from typing import Any

import pytest
from msgspec import structs

from pileus.compute.server.rows import Fault, Migration, Rescue, Seen, Server, Size, Snapshot
from pileus.compute.server.states import shown, wanted_power

SIZE = Size(id="1", name="small", vcpus=1, ram_mib=64, disk_gib=1)
RUNNING = Server(
    id="s", project_id="p", user_id="u", created_at=0, reservation_id="r", changed_at=0, moved_at=0, name="n",
    hostname="n", image_id="i", flavor=SIZE, vcpus=1, ram_mib=64, disk_gib=1, node_id="node", built=0, task=None,
    seen=Seen(power="on"), starts_seen=1, launched_at=1.0,
)  # fmt: skip
NEW: dict[str, Any] = {"launched_at": None, "built": -1, "seen": Seen()}
MOVE = Migration(
    id="m", number=1, server_id="s", project_id="p", user_id="u", old_flavor=SIZE, new_flavor=SIZE, created_at=0
)
SNAP = Snapshot(id="x", server_id="s", image_id="i", disk_id="root.0", node_id="node", created_at=0)


def power(name: str) -> Seen:
    return Seen(power=name)


@pytest.mark.parametrize(
    ("changes", "status", "vm_state", "task"),
    [
        ({}, "ACTIVE", "active", None),
        ({**NEW, "task": "networking"}, "BUILD", "building", "networking"),
        ({**NEW, "fault": Fault(message="no", at=0), "failed_try": 0}, "ERROR", "error", None),
        ({"fault": Fault(message="no", at=0), "failed_try": 0, "tries": 1}, "ACTIVE", "active", None),
        ({"broken": True}, "ERROR", "error", None),
        ({"deleted": True}, "ACTIVE", "active", "deleting"),
        ({"power": "off"}, "ACTIVE", "active", "powering-off"),
        ({"power": "off", "seen": power("off")}, "SHUTOFF", "stopped", None),
        ({"seen": power("off")}, "SHUTOFF", "stopped", "powering-on"),
        ({"seen": power("off"), "halted": 1}, "SHUTOFF", "stopped", None),
        ({"seen": power("off"), "halted": 1, "starts": 2}, "SHUTOFF", "stopped", "powering-on"),
        ({"power": "paused"}, "ACTIVE", "active", "pausing"),
        ({"power": "paused", "seen": power("paused")}, "PAUSED", "paused", None),
        ({"seen": power("paused")}, "PAUSED", "paused", "unpausing"),
        ({"power": "suspended", "seen": power("suspended")}, "SUSPENDED", "suspended", None),
        ({"seen": power("suspended")}, "SUSPENDED", "suspended", "resuming"),
        ({"reboots": 1}, "REBOOT", "active", "rebooting"),
        ({"resets": 1}, "HARD_REBOOT", "active", "rebooting_hard"),
        ({"rebuilds": 1}, "REBUILD", "active", "rebuilding"),
        ({"rebuilds": 1, "rebuilds_seen": 1, "generation": 1}, "REBUILD", "active", "rebuilding"),
        ({"rescue": Rescue(image_id="i")}, "ACTIVE", "active", "rescuing"),
        ({"rescue": Rescue(image_id="i"), "rescued": True}, "RESCUE", "rescued", None),
        ({"rescued": True}, "RESCUE", "rescued", "unrescuing"),
        ({"shelved": "offloaded"}, "ACTIVE", "active", "shelving"),
        ({"shelved": "offloaded", "shelved_seen": "shelved"}, "SHELVED", "shelved", "shelving_offloading"),
        ({"shelved": "offloaded", "shelved_seen": "offloaded"}, "SHELVED_OFFLOADED", "shelved_offloaded", None),
        ({"shelved_seen": "offloaded"}, "SHELVED_OFFLOADED", "shelved_offloaded", "unshelving"),
    ],
)
def test_states_of_a_server_by_itself(changes: dict[str, Any], status: str, vm_state: str, task: str | None) -> None:
    seen = shown(structs.replace(RUNNING, **changes))
    assert (seen.status, seen.vm_state, seen.task_state) == (status, vm_state, task)


@pytest.mark.parametrize(
    ("changes", "status", "task"),
    [
        ({"state": "queued"}, "RESIZE", "resize_prep"),
        ({"state": "migrating"}, "RESIZE", "resize_migrating"),
        ({"state": "finished"}, "VERIFY_RESIZE", None),
        ({"state": "finished", "wish": "confirm"}, "VERIFY_RESIZE", "resize_confirming"),
        ({"state": "finished", "wish": "revert"}, "REVERT_RESIZE", "resize_reverting"),
        ({"state": "reverting", "wish": "revert"}, "REVERT_RESIZE", "resize_reverting"),
    ],
)
def test_states_of_a_server_being_resized(changes: dict[str, Any], status: str, task: str | None) -> None:
    seen = shown(RUNNING, structs.replace(MOVE, **changes))
    assert (seen.status, seen.task_state) == (status, task)


@pytest.mark.parametrize(
    ("changes", "task"),
    [
        ({}, "image_snapshot"),
        ({"copied": True}, "image_uploading"),
        ({"kind": "backup"}, "image_backup"),
    ],
)
def test_an_image_being_made_shows_as_a_task(changes: dict[str, Any], task: str) -> None:
    assert shown(RUNNING, None, [structs.replace(SNAP, **changes)]).task_state == task


def test_power_states_are_the_reference_s_numbers() -> None:
    numbers = {"": 0, "on": 1, "paused": 3, "off": 4, "crashed": 6, "suspended": 7}
    for name, number in numbers.items():
        assert shown(structs.replace(RUNNING, seen=power(name))).power_state == number


def test_a_rescued_server_runs_whatever_was_wanted_of_its_own_disk() -> None:
    assert wanted_power(structs.replace(RUNNING, power="off", rescue=Rescue(image_id="i"))) == "on"
