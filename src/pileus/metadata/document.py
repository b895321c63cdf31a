"""What a guest is told about itself: the tree that the metadata service and the config drive share.

Sources: Compute API user guide, "Metadata"; the EC2 instance metadata categories of 2009-04-04.
A pure function from an Instance to path → bytes; paths have no leading slash.
"""

import json
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

OPENSTACK_VERSIONS = (
    "2012-08-10", "2013-04-04", "2013-10-17", "2015-10-15", "2016-06-30", "2016-10-06", "2017-02-22",
    "2018-08-27", "2020-10-14", "latest",
)  # fmt: skip
EC2_VERSIONS = (
    "1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01",
    "2009-04-04", "latest",
)  # fmt: skip


class Instance(Struct, frozen=True, kw_only=True):
    """What is known of a server that its guest may know too."""

    id: str
    name: str
    hostname: str  # with domain when there is one
    project_id: str
    zone: str = "nova"
    metadata: Mapping[str, str] = {}
    keys: tuple[tuple[str, str, str], ...] = ()  # (name, type, public key)
    user_data: bytes = b""
    files: tuple[tuple[str, bytes], ...] = ()  # (path in the guest, content): personality, on config drives only
    admin_password: str = ""  # for config drives alone
    posted_password: str = ""  # what the guest itself posted, encrypted; for the metadata service alone
    network_data: Mapping[str, Any] = {}
    devices: tuple[Mapping[str, Any], ...] = ()  # tagged devices, as device metadata shows them
    launch_index: int = 0
    random_seed: str = ""  # base64
    vendor_data: Mapping[str, Any] = {}
    fixed_ipv4: str = ""
    floating_ipv4: str = ""
    flavor_name: str = ""
    image_id: str = ""
    kernel_id: str = ""
    security_groups: tuple[str, ...] = ()


def ec2_id(server_id: str) -> str:
    """An EC2 style id: the same for the same server, not reversible."""
    return "i-" + server_id.replace("-", "")[:8]


def tree(instance: Instance) -> dict[str, bytes]:
    """Every file of the OpenStack and the EC2 tree."""
    files: dict[str, bytes] = {}
    for version in OPENSTACK_VERSIONS:
        files.update(_openstack(instance, version))
        if version >= "2013-04-04":
            files[f"openstack/{version}/password"] = instance.posted_password.encode()
    for version in EC2_VERSIONS:
        files.update(_ec2(instance, version))
    return files


def config_drive(instance: Instance) -> dict[str, bytes]:
    """The files of the config drive: both trees, at the versions that guests look for."""
    kept = ("openstack/latest/", "openstack/2012-08-10/", "openstack/2020-10-14/", "openstack/2018-08-27/")
    told = tree(instance).items()
    files = {path: data for path, data in told if path.startswith(kept) and not path.endswith("/password")}
    if instance.files:
        files |= _personality(instance, files)
    files["ec2/latest/meta-data.json"] = _dump(_ec2_metadata(instance))
    files["ec2/2009-04-04/meta-data.json"] = files["ec2/latest/meta-data.json"]
    if instance.user_data:
        files["ec2/latest/user-data"] = instance.user_data
        files["ec2/2009-04-04/user-data"] = instance.user_data
    return files


def _personality(instance: Instance, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The given files, and every meta_data.json with the list of them."""
    listed = [{"path": path, "content_path": f"/content/{n:04}"} for n, (path, _) in enumerate(instance.files)]
    found = {f"openstack/content/{n:04}": content for n, (_, content) in enumerate(instance.files)}
    for path in [path for path in files if path.endswith("/meta_data.json")]:
        found[path] = _dump({**json.loads(files[path]), "files": listed})
    return found


def _dump(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _openstack(instance: Instance, version: str) -> dict[str, bytes]:
    base = f"openstack/{version}"
    files = {f"{base}/meta_data.json": _dump(_meta_data(instance, version))}
    if instance.user_data:
        files[f"{base}/user_data"] = instance.user_data
    if version >= "2013-10-17":
        files[f"{base}/vendor_data.json"] = _dump(instance.vendor_data)
    if version >= "2015-10-15":
        files[f"{base}/network_data.json"] = _dump(instance.network_data)
    if version >= "2016-10-06":
        files[f"{base}/vendor_data2.json"] = b"{}"
    return files


def _meta_data(instance: Instance, version: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "uuid": instance.id,
        "name": instance.name,
        "hostname": instance.hostname,
        "launch_index": instance.launch_index,
        "availability_zone": instance.zone,
        "meta": dict(instance.metadata),
    }
    if instance.keys:
        found["public_keys"] = {name: public for name, _, public in instance.keys}
        found["keys"] = [{"name": name, "type": kind, "data": public} for name, kind, public in instance.keys]
    if instance.admin_password:
        found["admin_pass"] = instance.admin_password
    if version >= "2013-04-04":
        found["random_seed"] = instance.random_seed
    if version >= "2015-10-15":
        found["project_id"] = instance.project_id
    if version >= "2016-06-30":
        found["devices"] = list(instance.devices)
    if version >= "2017-02-22":
        found["dedicated_cpus"] = []
    return found


def _ec2_metadata(instance: Instance) -> dict[str, Any]:
    found: dict[str, Any] = {
        "ami-id": "ami-" + (instance.image_id or "0" * 8).replace("-", "")[:8],
        "ami-launch-index": instance.launch_index,
        "ami-manifest-path": "",  # there never was a manifest: the category exists for old clients
        "block-device-mapping": {"ami": "vda", "root": "/dev/vda"},
        "hostname": instance.hostname,
        "instance-action": "none",
        "instance-id": ec2_id(instance.id),
        "instance-type": instance.flavor_name,
        "local-hostname": instance.hostname,
        "local-ipv4": instance.fixed_ipv4,
        "placement": {"availability-zone": instance.zone},
        "public-hostname": instance.hostname,
        "public-ipv4": instance.floating_ipv4,
        "reservation-id": "r-" + instance.id.replace("-", "")[-8:],
        "security-groups": "\n".join(instance.security_groups),
    }
    if instance.keys:
        found["public-keys"] = {
            str(i): {"_name": f"{i}={name}", "openssh-key": key} for i, (name, _, key) in enumerate(instance.keys)
        }
    return found


def _ec2(instance: Instance, version: str) -> dict[str, bytes]:
    files = {}
    if instance.user_data:
        files[f"{version}/user-data"] = instance.user_data
    for path, value in _leaves(_ec2_metadata(instance)):
        files[f"{version}/meta-data/{path}"] = value.encode()
    return files


def _leaves(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += _leaves(value, f"{prefix}{name}/")
        else:
            found.append((prefix + name, str(value)))
    return found


def listing(files: Mapping[str, bytes], folder: str) -> bytes | None:
    """The index of a folder as the service answers it, one entry a line; None when there is no such folder."""
    prefix = folder.strip("/") + "/" if folder.strip("/") else ""
    entries: dict[str, None] = {}
    for path in files:
        if not path.startswith(prefix):
            continue
        name, slash, _ = path[len(prefix) :].partition("/")
        if slash and prefix.endswith("public-keys/"):
            name = files.get(f"{prefix}{name}/_name", name.encode()).decode()
        elif name == "_name":
            continue
        elif slash:
            name += "/"
        entries[name] = None
    if not entries:
        return None
    if not prefix:
        return "\n".join(sorted({e.strip("/") for e in entries} - {"openstack"})).encode()
    if prefix == "openstack/":
        return "\n".join(v for v in OPENSTACK_VERSIONS if v + "/" in entries).encode()
    return "\n".join(sorted(entries)).encode()


def lookup(files: Mapping[str, bytes], path: str) -> bytes | None:
    """What the service answers to a path: a file, the listing of a folder, or None (404)."""
    clean = "/".join(part for part in path.split("/") if part)
    if clean.endswith("/_name"):
        return None
    found = files.get(clean)
    return found if found is not None else listing(files, clean)
