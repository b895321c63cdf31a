"""Guests find what cloud-init and older clients look for."""

import json

from pileus.metadata.document import Instance, config_drive, lookup, tree

SERVER = Instance(
    id="3f1c7c3e-6b0e-4d43-8f59-1d0f9c2a7e11", name="web", hostname="web.novalocal", project_id="p1",
    metadata={"role": "front"}, keys=(("mine", "ssh", "ssh-ed25519 AAAA"),), user_data=b"#!/bin/sh\n",
    network_data={"links": [], "networks": [], "services": []}, fixed_ipv4="10.0.0.5",
)  # fmt: skip


def test_openstack_tree_names_the_server_and_its_keys() -> None:
    data = json.loads(lookup(tree(SERVER), "/openstack/latest/meta_data.json") or b"")
    assert data["uuid"] == SERVER.id and data["hostname"] == "web.novalocal" and data["meta"] == {"role": "front"}
    assert data["public_keys"] == {"mine": "ssh-ed25519 AAAA"}


def test_old_versions_do_not_show_what_came_later() -> None:
    files = tree(SERVER)
    assert "openstack/2013-10-17/network_data.json" not in files
    assert "project_id" not in json.loads(files["openstack/2012-08-10/meta_data.json"])


def test_ec2_tree_lists_folders_and_keys() -> None:
    files = tree(SERVER)
    assert lookup(files, "latest/meta-data/local-ipv4") == b"10.0.0.5"
    assert lookup(files, "latest/meta-data/public-keys/") == b"0=mine"
    assert lookup(files, "latest/meta-data/public-keys/0/openssh-key") == b"ssh-ed25519 AAAA"
    assert b"placement/" in (lookup(files, "latest/meta-data") or b"").split(b"\n")
    assert lookup(files, "2009-04-04/user-data") == b"#!/bin/sh\n"
    assert lookup(files, "latest/meta-data/nothing") is None
    assert b"2009-04-04" in (lookup(files, "/") or b"")


def test_config_drive_holds_what_cloud_init_reads() -> None:
    files = config_drive(SERVER)
    assert files["openstack/latest/user_data"] == b"#!/bin/sh\n"
    assert json.loads(files["openstack/latest/network_data.json"])["links"] == []
