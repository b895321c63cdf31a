"""Everything that lives, as users make, change and delete it: the table that the machine of one_machine.py plays with.

In the order in which all can be deleted.  A new life joins as one more row; see CONTRIBUTING.md, "Add a state".
"""

from collections.abc import Callable, Mapping
from typing import Any

from lives_of_networks import FLOATING, GROUPS, NETWORKS, PORTS, ROUTERS, inside
from one_machine import ADMIN, PROJECT, Act, Life, Nothing, Row, Scene, rests_in

from direct import Answer
from pileus.image import rows as images
from server_cloud import COMPUTE, IMAGE, LATEST, OCTETS, VOLUME

RECENT: Mapping[str, Any] = {"version": "volume 3.71"}
DATA = b"a guest's disk" + bytes(4096) + b"end"

# --- servers -------------------------------------------------------------------------------------------------------

ANY = ("ACTIVE", "SHUTOFF")
POWER = {"ACTIVE": ("on",), "SHUTOFF": ("off",), "PAUSED": ("paused",), "SUSPENDED": ("suspended",), "RESCUE": ("on",),
         "VERIFY_RESIZE": ("on", "off")}  # fmt: skip


def boot(**body: Any) -> Callable[[Scene], Answer]:
    return lambda scene: scene.cloud.ask(
        {"networks": [{"uuid": inside(scene)}], "imageRef": scene.some("images", "active"), **body}
    )


def boot_from_volume(scene: Scene, *, keep: bool) -> Answer:
    root = {
        "boot_index": 0, "source_type": "image", "destination_type": "volume", "volume_size": 1,
        "uuid": scene.some("images", "active"), "delete_on_termination": not keep,
    }  # fmt: skip
    return boot(imageRef=None, block_device_mapping_v2=[root])(scene)


def boot_with_port(scene: Scene) -> Answer:
    free = [port for port in scene.rows("ports") if not port["device_id"]]
    return boot(networks=[{"port": scene.of(free)["id"]}])(scene)


def do(action: str, body: Any = None) -> Callable[[Scene, Row], Answer]:
    return lambda scene, row: scene.cloud.act(row["id"], action, body)


def resize(scene: Scene, row: Row) -> Answer:
    """To the other of two flavors."""
    other = "nano" if "micro" in row["flavor"].values() else "micro"
    return scene.cloud.act(row["id"], "resize", {"flavorRef": other})


def rebuild(scene: Scene, row: Row) -> Answer:
    return scene.cloud.act(row["id"], "rebuild", {"imageRef": scene.some("images", "active")})


def plug_volume(scene: Scene, row: Row) -> Answer:
    body = {"volumeAttachment": {"volumeId": scene.some("volumes", "available")}}
    return scene.ask("POST", f"{COMPUTE}/servers/{row['id']}/os-volume_attachments", body)


def unplug_volume(scene: Scene, row: Row) -> Answer:
    there = row["os-extended-volumes:volumes_attached"]
    return scene.ask("DELETE", f"{COMPUTE}/servers/{row['id']}/os-volume_attachments/{scene.of(there)['id']}")


def plug_port(scene: Scene, row: Row) -> Answer:
    body = {"interfaceAttachment": {"net_id": inside(scene)}}
    return scene.ask("POST", f"{COMPUTE}/servers/{row['id']}/os-interface", body)


def unplug_port(scene: Scene, row: Row) -> Answer:
    there = [port["id"] for port in scene.rows("ports") if port["device_id"] == row["id"]]
    return scene.ask("DELETE", f"{COMPUTE}/servers/{row['id']}/os-interface/{scene.of(there)}")


def server_rests(scene: Scene, row: Row) -> str:
    """As it is wanted, with exactly one guest where it says that it is."""
    if row["OS-EXT-STS:task_state"] is not None:
        return f"its task is {row['OS-EXT-STS:task_state']}"
    nodes = [node for node in scene.cloud.nodes.values() if row["id"] in node.hypervisor.machine.guests]
    if [node.name for node in nodes] != [host for host in [row["OS-EXT-SRV-ATTR:host"]] if host]:
        return f"guests are on {nodes}"
    power = [node.hypervisor.machine.guests[row["id"]].seen.power for node in nodes]
    if row["status"] == "SHELVED_OFFLOADED":
        return "" if not nodes else "it is on a node"
    return "" if power and power[0] in POWER.get(row["status"], ()) else f"its guest is {power}"


def compute_usage(scene: Scene) -> Mapping[str, int]:
    used = scene.ask("GET", f"{COMPUTE}/limits").json["limits"]["absolute"]
    return {"instances": used["totalInstancesUsed"]}


SERVERS = Life(
    name="servers",
    path=f"{COMPUTE}/servers",
    listed_at=f"{COMPUTE}/servers/detail?all_tenants=1&sort_key=created_at&sort_dir=asc",
    how={**ADMIN, "version": LATEST},
    make={
        "boot": boot(), "boot with a drive": boot(config_drive=True), "boot large": boot(flavorRef="micro"),
        "boot from a volume": lambda scene: boot_from_volume(scene, keep=False),
        "boot from a volume that stays": lambda scene: boot_from_volume(scene, keep=True),
        "boot with a port": boot_with_port,
    },
    acts=(
        Act("stop", do("os-stop"), (*ANY, "ERROR")), Act("start", do("os-start"), ("SHUTOFF",)),
        Act("reboot", do("reboot", {"type": "HARD"}), (*ANY, "ERROR")),
        Act("soft reboot", do("reboot", {"type": "SOFT"}), ("ACTIVE",)),
        Act("pause", do("pause"), ("ACTIVE",)), Act("unpause", do("unpause"), ("PAUSED",)),
        Act("suspend", do("suspend"), ("ACTIVE",)), Act("resume", do("resume"), ("SUSPENDED",)),
        Act("rescue", do("rescue"), ANY), Act("unrescue", do("unrescue"), ("RESCUE",)),
        Act("resize", resize, ANY),
        Act("confirm", do("confirmResize"), ("VERIFY_RESIZE",)), Act("revert", do("revertResize"), ("VERIFY_RESIZE",)),
        Act("shelve", do("shelve"), (*ANY, "PAUSED", "SUSPENDED")),
        Act("unshelve", do("unshelve"), ("SHELVED_OFFLOADED",)),
        Act("image", do("createImage", {"name": "snap"}), (*ANY, "PAUSED", "SUSPENDED")),
        Act("back up", do("createBackup", {"name": "b", "backup_type": "daily", "rotation": 1}), ANY),
        Act("rebuild", rebuild, (*ANY, "ERROR")),
        Act("attach a volume", plug_volume, ANY), Act("detach a volume", unplug_volume, ANY),
        Act("attach a port", plug_port, ANY), Act("detach a port", unplug_port, ANY),
    ),
    rests=server_rests,
    reason=lambda scene, row: str(row.get("fault", {}).get("message", "")),
    weight=6,
    usage=compute_usage,
    counted=lambda rows: {"instances": sum(row["OS-EXT-STS:task_state"] != "deleting" for row in rows)},
)  # fmt: skip

# --- block storage -------------------------------------------------------------------------------------------------


def volume(**wanted: str) -> Callable[[Scene], Answer]:
    """A volume of 1 GiB or what its source has, from `wanted`: the field of the source → its kind."""

    def make(scene: Scene) -> Answer:
        body: dict[str, Any] = {"size": 2 if wanted else 1}
        for key, kind in wanted.items():
            body[key] = scene.some(kind, "available", "active", "in-use")
        return scene.ask("POST", f"{VOLUME}/volumes", {"volume": body}, **RECENT)

    return make


def change(action: str, body: Callable[[Scene, Row], Any]) -> Callable[[Scene, Row], Answer]:
    return lambda scene, row: scene.ask("POST", f"{VOLUME}/volumes/{row['id']}/action", {action: body(scene, row)},
                                        **RECENT)  # fmt: skip


def last_snapshot(scene: Scene, row: Row) -> Any:
    mine = [one["id"] for one in scene.rows("snapshots") if one["volume_id"] == row["id"]]
    return {"snapshot_id": scene.of(mine[-1:])}


def offer(scene: Scene, row: Row) -> Answer:
    return scene.ask("POST", f"{VOLUME}/volume-transfers", {"transfer": {"volume_id": row["id"]}}, **RECENT)


def withdraw(scene: Scene, row: Row) -> Answer:
    offers = scene.ask("GET", f"{VOLUME}/volume-transfers", **RECENT).json["transfers"]
    return scene.ask("DELETE", f"{VOLUME}/volume-transfers/{scene.of(offers)['id']}", **RECENT)


def volume_rests(scene: Scene, row: Row) -> str:
    """A volume waits for a server only while that server is not running."""
    if row["status"] in ("reserved", "attaching"):
        owners = {tie["server_id"] for tie in row["attachments"]}
        idle = {one["id"] for one in scene.rows("servers", "ERROR", "SHELVED_OFFLOADED")}
        return "" if owners <= idle else f"it waits for {owners - idle}"
    return rests_in("available", "in-use", "awaiting-transfer")(scene, row)


def told(scene: Scene, row: Row) -> str:
    """What a message says of a volume or snapshot."""
    said = scene.ask("GET", f"{VOLUME}/messages?resource_uuid={row['id']}", **RECENT).json["messages"]
    return str(said[0]["user_message"]) if said else ""


def storage_usage(name: str) -> Callable[[Scene], Mapping[str, int]]:
    def usage(scene: Scene) -> Mapping[str, int]:
        path = f"{VOLUME}/os-quota-sets/{PROJECT}?usage=True"
        return {name: scene.ask("GET", path, **ADMIN).json["quota_set"][name]["in_use"]}

    return usage


def end_volume(scene: Scene, volume_id: str) -> Answer:
    withdrawn = [one for one in scene.ask("GET", f"{VOLUME}/volume-transfers", **RECENT).json["transfers"]
                 if one["volume_id"] == volume_id]  # fmt: skip
    for one in withdrawn:
        scene.ask("DELETE", f"{VOLUME}/volume-transfers/{one['id']}", **RECENT)
    return scene.ask("DELETE", f"{VOLUME}/volumes/{volume_id}", **RECENT)


SNAPSHOTS = Life(
    name="snapshots",
    path=f"{VOLUME}/snapshots",
    make={"take": lambda scene: scene.ask("POST", f"{VOLUME}/snapshots", {"snapshot": {
        "volume_id": scene.some("volumes", "available", "in-use"), "force": True}})},
    rests=rests_in("available"),
    reason=told,
    usage=storage_usage("snapshots"),
    counted=lambda rows: {"snapshots": len(rows)},
)  # fmt: skip

VOLUMES = Life(
    name="volumes",
    path=f"{VOLUME}/volumes",
    listed_at=f"{VOLUME}/volumes/detail",
    how=RECENT,
    make={
        "create": volume(), "from an image": volume(imageRef="images"), "clone": volume(source_volid="volumes"),
        "from a snapshot": volume(snapshot_id="snapshots"),
    },
    acts=(
        Act("extend", change("os-extend", lambda scene, row: {"new_size": row["size"] + 1}), ("available", "in-use")),
        Act("revert", change("revert", last_snapshot), ("available",)),
        Act("upload", change("os-volume_upload_image", lambda scene, row: {"image_name": "up", "force": True}),
            ("available", "in-use")),
        Act("re-image", change("os-reimage", lambda scene, row: {"image_id": scene.some("images", "active")}),
            ("available",)),
        Act("offer", offer, ("available",)), Act("withdraw", withdraw, ("awaiting-transfer",)),
    ),
    rests=volume_rests,
    reason=told,
    delete=end_volume,
    weight=3,
    usage=storage_usage("volumes"),
    counted=lambda rows: {"volumes": len(rows)},
)  # fmt: skip

# --- images --------------------------------------------------------------------------------------------------------


def new_image(scene: Scene) -> Answer:
    body = {"name": "an image", "disk_format": "raw", "container_format": "bare"}
    return scene.ask("POST", f"{IMAGE}/images", body)


def send(to: str) -> Callable[[Scene, Row], Answer]:
    return lambda scene, row: scene.ask("PUT", f"{IMAGE}/images/{row['id']}/{to}", raw=DATA, headers=OCTETS)


def send_and_be_killed(scene: Scene, row: Row) -> Answer:
    """An upload into an API process that is killed when the bytes are there and the row is not."""
    db, cloud = scene.cloud.db, scene.cloud
    found = db.read(lambda tx: images.IMAGES.get(tx, id=row["id"]))
    if found is None or found.deleting or found.transfer or found.feed is not None or found.status != "queued":
        raise Nothing
    writer = cloud.blob.create(db.transact(lambda tx: images.begin(tx, found, "saving", cloud.clock())))
    writer.write(b"half")
    if scene.of((True, False)):
        writer.commit()
    return Answer(204, {}, b"")


def ask_image(verb: str, body: Any = None) -> Callable[[Scene, Row], Answer]:
    return lambda scene, row: scene.ask("POST", f"{IMAGE}/images/{row['id']}/{verb}", body)


IMAGES = Life(
    name="images",
    path=f"{IMAGE}/images",
    listed_at=f"{IMAGE}/images?limit=1000&sort=created_at:asc",
    make={"create": new_image},
    acts=(
        Act("upload", send("file"), ("queued",)), Act("stage", send("stage"), ("queued",)),
        Act("import", ask_image("import", {"method": {"name": "glance-direct"}}), ("uploading",)),
        Act("cut upload", send_and_be_killed, ("queued",)),
        Act("deactivate", lambda scene, row: scene.ask("POST", f"{IMAGE}/images/{row['id']}/actions/deactivate",
                                                       **ADMIN), ("active",)),
        Act("reactivate", lambda scene, row: scene.ask("POST", f"{IMAGE}/images/{row['id']}/actions/reactivate",
                                                       **ADMIN), ("deactivated",)),
    ),
    rests=rests_in("queued", "uploading", "active", "deactivated"),
    reason=lambda scene, row: str(row.get("os_glance_fault") or ""),
)  # fmt: skip

# --- all ------------------------------------------------------------------------------------------------------------

LIVES = (SERVERS, SNAPSHOTS, VOLUMES, IMAGES, FLOATING, ROUTERS, PORTS, NETWORKS, GROUPS)
