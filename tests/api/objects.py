"""A cloud with one object of each kind, all of project demo's, and where each stands in a path.

For the tests that are generated over the operation table: they fill the {placeholders} of any operation's path with
ids that exist, and know which of them other projects may not know of.
"""

import re
import time
from collections.abc import Mapping
from typing import Any

from cloud import FakeCloud
from direct import ADMIN, DEMO, OTHER, READER, SERVICE_USER, Answer, named_or
from pileus.core.fields import Version, show_version
from pileus.core.ids import new_id
from pileus.core.op import Operation
from pileus.db.connect import Tx
from pileus.identity import facade as identity
from pileus.identity.oauth1_signature import REQUEST_TOKENS, RequestToken
from pileus.identity.rows import (
    ACCESS_TOKENS,
    ASSIGNMENTS,
    PROJECTS,
    ROLES,
    USERS,
    AccessToken,
    Assignment,
    Project,
    User,
)
from pileus.roles.controller import services
from pileus.volume.message import MESSAGES, Message

IDENTITY, PLACEMENT, IMAGE = "/identity/v3", "/placement", "/image/v2"
NETWORK, VOLUME, COMPUTE = "/networking/v2.0", "/volume/v3", "/compute/v2.1"
NOVA, CINDER, NEWEST = {"openstack-api-version": "compute 2.104"}, {"openstack-api-version": "volume 3.71"}, {
    "openstack-api-version": "placement 1.39"
}  # fmt: skip
PROJECT = str(DEMO.project_id)

OPERATIONS = [op for service in services() for op in service.operations]
# Server states other than ACTIVE, and the action that leads there.
STATES = {
    "SHUTOFF": {"os-stop": None}, "PAUSED": {"pause": None}, "SUSPENDED": {"suspend": None},
    "RESCUE": {"rescue": None}, "SHELVED_OFFLOADED": {"shelve": None},
    "VERIFY_RESIZE": {"resize": {"flavorRef": "micro"}},
}  # fmt: skip
_POLICY = "affinity"
STATE_FOR = {
    "os-start": "SHUTOFF", "unpause": "PAUSED", "resume": "SUSPENDED", "unrescue": "RESCUE",
    "unshelve": "SHELVED_OFFLOADED", "confirmResize": "VERIFY_RESIZE", "revertResize": "VERIFY_RESIZE",
}  # fmt: skip
ON_ATTACHED = {"os-detach", "os-begin_detaching", "os-roll_detaching", "os-force_detach"}
ON_PLAIN = {"os-force_delete", "os-reimage"}


def name_of(op: Operation) -> str:
    """What tests call an operation."""
    return f"{op.method} {op.path}" + (f" {op.action}" if op.action else "") + f" {op.first[0]}.{op.first[1]}"


class ObjectsOfDemo:
    """Makes the objects; `id`, `path` and `fill` answer by operation."""

    def __init__(self, cloud: FakeCloud):
        self.cloud = cloud
        cloud.db.transact(self._people)
        keys = cloud.api.app.settings.keys_folder
        cloud.api.app.authenticate = named_or(identity.Authenticator(keys))
        # (service, segment before the placeholder) → its value; None as service: whichever it is
        self._ids: dict[tuple[str | None, str], str] = {}
        self._private: set[tuple[str | None, str]] = set()
        self._make_identity()
        self._make_image()
        self._make_network()
        self._make_volumes()
        self._make_placement()
        self._make_compute()
        self.others = self._make_for_other()

    # what an operation's path names

    def id(self, op: Operation, name: str) -> str:
        """The value of one placeholder of an operation's path: an object for which it makes sense."""
        if name == "server_id":
            state = "VERIFY_RESIZE" if "/migrations" in op.path else STATE_FOR.get(op.action, "ACTIVE")
            return self.in_state.get(state, self.named("servers"))
        if name == "flavor_id" and ("access" in op.path or "Access" in op.action):
            return "hidden"
        if name == "type_id" and op.path.count("/encryption/"):
            return self.sealed
        if name == "volume_id" and op.service.name == "cinder" and op.action in ON_ATTACHED:
            return self.spare
        if name == "volume_id" and op.service.name == "cinder" and (op.action in ON_PLAIN or op.method == "DELETE"):
            return self.plain
        return self._ids[self._key(op, name)]

    def placeholder(self, op: Operation, segment: str) -> str:
        """The name of the placeholder after a segment of an operation's path, or nothing."""
        found = re.search(rf"/{segment}/{{(\w+)}}", op.path)
        return found[1] if found else ""

    def private(self, op: Operation) -> set[str]:
        """The placeholders of an operation whose values nobody outside of the project may know of."""
        return {name for name in re.findall(r"\{(\w+)\}", op.path) if self._key(op, name) in self._private}

    def fill(self, op: Operation, ids: Mapping[str, str]) -> str:
        """The path with these values, and for the placeholders that are not given the objects of demo."""
        return re.sub(r"\{(\w+)\}", lambda found: ids.get(found[1]) or self.id(op, found[1]), op.path)

    def path(self, op: Operation) -> str:
        return self.fill(op, {})

    def version_header(self, op: Operation, version: Version | None = None) -> dict[str, str]:
        """The headers that ask for the first version of an operation, or for this one."""
        word = op.service.version_header
        return {"openstack-api-version": f"{word} {show_version(version or op.first)}"} if word else {}

    def everything(self) -> dict[str, str]:
        """Every private value by its segment."""
        return {segment: self._ids[service, segment] for service, segment in self._private}

    def named(self, segment: str, service: str | None = None) -> str:
        """The id of the object in a collection."""
        return self._ids[service, segment]

    def _key(self, op: Operation, name: str) -> tuple[str | None, str]:
        before = op.path.split("/{" + name + "}")[0].split("/")
        for key in (
            (op.service.name, before[-1]), (op.service.name, "/".join(before[-3:-2] + before[-1:])), (None, before[-1]),
        ):  # fmt: skip
            if key in self._ids:
                return key
        raise KeyError(f"{op.path}: the tests have no object for {name}")

    # making them

    def ask(self, method: str, path: str, body: Any = None, caller: str = "demo", **how: Any) -> Any:
        """A request that must succeed; its body."""
        answer: Answer = self.cloud.call(method, path, body, caller=caller, **how)
        assert answer.status < 300, (method, path, answer)
        return answer.json

    def _keep(self, segment: str, value: object, *, private: bool = True, service: str | None = None) -> str:
        self._ids[service, segment] = str(value)
        if private:
            self._private.add((service, segment))
        return str(value)

    def _people(self, tx: Tx) -> None:
        """The callers as identity knows them."""
        identity.bootstrap(tx, admin_password="secret", public_url="http://cloud:5000", region="RegionOne", now=1.0)
        roles = {role.name: role.id for role in ROLES.all(tx)}
        for caller in (ADMIN, DEMO, READER, OTHER, SERVICE_USER):
            known = PROJECTS.get(tx, id=caller.project_id)
            if known is None:
                name = f"{caller.project_name}-of-tests"
                PROJECTS.insert(tx, Project(id=str(caller.project_id), name=name, domain_id="default",
                                            parent_id="default"))  # fmt: skip
            USERS.insert(tx, User(id=caller.user_id, name=f"{caller.user_name}-of-tests", domain_id="default"))
            ASSIGNMENTS.insert(
                tx, Assignment(role_id=roles[caller.roles[0]], user_id=caller.user_id, target_id=caller.project_id)
            )

    def _make_identity(self) -> None:
        user = f"{IDENTITY}/users/{DEMO.user_id}"
        self.ask("PATCH", user, {"user": {"password": "correct horse"}}, "admin")
        self._keep("projects", PROJECT, service="keystone")
        self._keep("users", DEMO.user_id, service="keystone")
        self._keep("domains", "default", private=False)
        rule = {"path": "/v2.1/servers", "method": "GET", "service": "compute"}
        wanted = {"name": "made", "roles": [{"name": "member"}], "access_rules": [rule]}
        made = self.ask("POST", f"{user}/application_credentials", {"application_credential": wanted})
        credential = made["application_credential"]
        self._keep("application_credentials", credential["id"])
        self._keep("access_rules", credential["access_rules"][0]["id"])
        body = {"credential": {"user_id": DEMO.user_id, "type": "cert", "blob": "x"}}
        self._keep("credentials", self.ask("POST", f"{IDENTITY}/credentials", body)["credential"]["id"])
        body = {"tenant_id": PROJECT}
        self._keep("OS-EC2", self.ask("POST", f"{user}/credentials/OS-EC2", body)["credential"]["access"])
        group = self._admin("/groups", "group", name="friends")
        self.ask("PUT", f"{IDENTITY}/groups/{group}/users/{DEMO.user_id}", caller="admin")
        self._keep("groups", group, service="keystone")
        role = self._admin("/roles", "role", name="painter")
        self._keep("roles", role, private=False)
        self._keep("implies", self._admin("/roles", "role", name="apprentice"), private=False)
        self.ask("PUT", f"{IDENTITY}/roles/{role}/implies/{self.named('implies')}", caller="admin")
        self.ask("PUT", f"{IDENTITY}/projects/{PROJECT}/tags/blue", caller="admin")
        self._keep("projects/tags", "blue", private=False, service="keystone")
        self._keep("regions", "RegionOne", private=False)
        service = self._admin("/services", "service", name="painting", type="painting")
        self._keep("services", service, private=False)
        endpoint = {"service_id": service, "interface": "public", "url": "http://paint", "region_id": "RegionOne"}
        self._keep("endpoints", self._admin("/endpoints", "endpoint", **endpoint), private=False)
        limit = {"service_id": service, "resource_name": "brush"}
        body = {"registered_limits": [{**limit, "default_limit": 3}, {**limit, "resource_name": "hair",
                                                                     "default_limit": 3}]}  # fmt: skip
        made = self.ask("POST", f"{IDENTITY}/registered_limits", body, "admin")
        self._keep("registered_limits", made["registered_limits"][0]["id"], private=False)
        body = {"limits": [{**limit, "resource_limit": 5, "project_id": PROJECT}]}
        self._keep("limits", self.ask("POST", f"{IDENTITY}/limits", body, "admin")["limits"][0]["id"])
        self._make_delegations()
        self._make_federation()
        self._make_filters(service, self.named("endpoints"))

    def _make_delegations(self) -> None:
        """A trust, and what OAuth keeps of a consumer that demo lets in."""
        trust = {"trustor_user_id": DEMO.user_id, "trustee_user_id": READER.user_id, "project_id": PROJECT,
                 "impersonation": True, "roles": [{"name": "member"}]}  # fmt: skip
        self._keep("trusts", self.ask("POST", f"{IDENTITY}/OS-TRUST/trusts", {"trust": trust})["trust"]["id"])
        consumer = self._admin("/OS-OAUTH1/consumers", "consumer", description="c")
        self._keep("consumers", consumer, private=False)
        request = RequestToken(id=new_id(), consumer_id=consumer, sealed_secret="", project_id=PROJECT,
                               callback="oob", expires_at=time.time() + 1e6)  # fmt: skip
        access = AccessToken(id=new_id(), consumer_id=consumer, sealed_secret="", user_id=DEMO.user_id,
                             project_id=PROJECT, roles=[], expires_at=time.time() + 1e6)  # fmt: skip
        self.cloud.db.transact(lambda tx: (REQUEST_TOKENS.insert(tx, request), ACCESS_TOKENS.insert(tx, access)))
        self._keep("authorize", request.id, private=False)
        self._keep("access_tokens", access.id)

    def _make_federation(self) -> None:
        """An identity provider with a protocol and its mapping, and a service provider."""
        rule = {"local": [{"user": {"name": "{0}"}}], "remote": [{"type": "NAME"}]}
        for path, key, fields in (
            ("mappings/read-acme", "mapping", {"rules": [rule]}),
            ("identity_providers/acme", "identity_provider", {"domain_id": "default"}),
            ("identity_providers/acme/protocols/openid", "protocol", {"mapping_id": "read-acme"}),
            ("service_providers/away", "service_provider", {"auth_url": "http://a/v3", "sp_url": "http://a/saml2"}),
        ):
            self.ask("PUT", f"{IDENTITY}/OS-FEDERATION/{path}", {key: fields}, "admin")
        self._keep("mappings", "read-acme", private=False)
        self._keep("identity_providers", "acme", private=False)
        self._keep("protocols", "openid", private=False)
        self._keep("service_providers", "away", private=False)
        self._keep("websso", "openid", private=False)

    def _make_filters(self, service: str, endpoint: str) -> None:
        """Policies and groups of endpoints, and the configuration of a domain."""
        policy = self._admin("/policies", "policy", type="x", blob="y")
        self._keep("policies", policy, private=False)
        for place in (f"endpoints/{endpoint}", f"services/{service}", f"services/{service}/regions/RegionOne"):
            self.ask("PUT", f"{IDENTITY}/policies/{policy}/OS-ENDPOINT-POLICY/{place}", caller="admin")
        wanted = {"name": "g", "filters": {"service_id": service}}
        group = self._admin("/OS-EP-FILTER/endpoint_groups", "endpoint_group", **wanted)
        self._keep("endpoint_groups", group, private=False)
        config = {"config": {"ldap": {"url": "ldap://there"}}}
        self.ask("PUT", f"{IDENTITY}/domains/default/config", config, "admin")
        self._keep("config", "ldap", private=False, service="keystone")
        self._keep("security_compliance", "password_regex", private=False, service="keystone")
        self._keep("{group}", "url", private=False, service="keystone")

    def _admin(self, path: str, key: str, **fields: Any) -> str:
        return str(self.ask("POST", IDENTITY + path, {key: fields}, "admin")[key]["id"])

    def make_image(self, caller: str) -> str:
        """An active image that only its project sees."""
        wanted = {"name": "i", "disk_format": "raw", "container_format": "bare", "visibility": "shared"}
        image = str(self.ask("POST", f"{IMAGE}/images", {**wanted, "tags": ["blue"]}, caller)["id"])
        octets = {"content-type": "application/octet-stream"}
        self.ask("PUT", f"{IMAGE}/images/{image}/file", raw=b"\0" * 4096, headers=octets, caller=caller)
        return image

    def _make_image(self) -> None:
        image = self._keep("images", self.make_image("demo"))
        self.ask("POST", f"{IMAGE}/images/{image}/members", {"member": SERVICE_USER.project_id})
        self._keep("members", SERVICE_USER.project_id, private=False)
        self._keep("images/tags", "blue", private=False, service="glance")

    def _make_network(self) -> None:
        outside = {"name": "public", "router:external": True, "provider:network_type": "flat",
                   "provider:physical_network": "public"}  # fmt: skip
        external = self._network("networks", "network", "admin", **outside)
        self.external = external
        self._network("subnets", "subnet", "admin", network_id=external, ip_version=4, cidr="172.24.4.0/24")
        network = self._keep("networks", self._network("networks", "network", name="net"))
        self._keep("network-ip-availabilities", network)
        subnet = self._network("subnets", "subnet", network_id=network, ip_version=4, cidr="10.9.0.0/24")
        self._keep("subnets", subnet)
        router = self._network("routers", "router", external_gateway_info={"network_id": external})
        self._keep("routers", router)
        self.empty_subnet, self.routed_subnet = (
            self._network("subnets", "subnet", network_id=network, ip_version=4, cidr=f"10.9.{n}.0/24") for n in (1, 2)
        )
        for routed in (subnet, self.routed_subnet):
            self.ask("PUT", f"{NETWORK}/routers/{router}/add_router_interface", {"subnet_id": routed})
        port = self._keep("ports", self._network("ports", "port", network_id=network))
        address = self._network("floatingips", "floatingip", floating_network_id=external, port_id=port)
        self._keep("floatingips", address)
        group = self._keep("security-groups", self._network("security-groups", "security_group", name="g"))
        rule = {"security_group_id": group, "direction": "ingress", "protocol": "tcp", "port_range_min": 22,
                "port_range_max": 22}  # fmt: skip
        rule_id = self._network("security-group-rules", "security_group_rule", **rule)
        self._keep("security-group-rules", rule_id)
        self._keep("os-security-group-rules", rule_id)
        kinds = ("networks", "subnets", "ports", "routers", "floatingips", "security-groups")
        for kind in kinds:
            self.ask("PUT", f"{NETWORK}/{kind}/{self.named(kind)}/tags/blue")
            self._keep(f"{kind}/tags", "blue", private=False, service="neutron")
        agents = self.ask("GET", f"{NETWORK}/agents", caller="admin")["agents"]
        self._keep("agents", agents[0]["id"], private=False)
        self._keep("extensions", "router", private=False, service="neutron")
        self._keep("quotas", PROJECT)
        self.cloud.run()

    def _network(self, path: str, key: str, caller: str = "demo", **fields: Any) -> str:
        return str(self.ask("POST", f"{NETWORK}/{path}", {key: fields}, caller)[key]["id"])

    def _make_volumes(self) -> None:
        self._keep("v3", PROJECT)
        volume = self._keep(
            "volumes", self._volume("/volumes", "volume", size=1, metadata={"k": "v"}), service="cinder"
        )
        given, held, self.spare, self.plain = (self._volume("/volumes", "volume", size=1) for _ in range(4))
        self.cloud.run()
        image_metadata = {"os-set_image_metadata": {"metadata": {"k": "v"}}}
        self.ask("POST", f"{VOLUME}/volumes/{volume}/action", image_metadata)
        self._keep("snapshots", self._volume("/snapshots", "snapshot", volume_id=volume, metadata={"k": "v"}))
        self.cloud.run()
        transfer = self._volume("/volume-transfers", "transfer", volume_id=given)
        self._keep("volume-transfers", transfer)
        self._keep("os-volume-transfer", transfer)
        self._keep("attachments", self._volume("/attachments", "attachment", volume_uuid=held))
        self._make_types()
        for segment, value in (("metadata", "k"), ("extra_specs", "k"), ("os-extra_specs", "k"),
                               ("os-quota-class-sets", "default"), ("capabilities", self._pool())):  # fmt: skip
            self._keep(segment, value, private=False)
        self._keep("os-hosts", self._pool().partition("#")[0], private=False, service="cinder")
        self._keep("extensions", "os-volume-manage", private=False, service="cinder")
        self._keep("os-quota-sets", PROJECT)
        message = Message(
            id=new_id(), project_id=PROJECT, request_id="req-1", resource_type="VOLUME", resource_id=volume,
            event_id="VOLUME_VOLUME_001_001", level="ERROR", text="x", created_at=1.0, expires_at=time.time() + 1e6,
        )  # fmt: skip
        self.cloud.db.transact(lambda tx: MESSAGES.insert(tx, message))
        self._keep("messages", message.id)

    def _make_types(self) -> None:
        """A type that only demo may use, one with encryption, and a set of QoS specs."""
        wanted = {"name": "fast", "extra_specs": {"k": "v"}, "os-volume-type-access:is_public": False}
        kind = self._keep("types", self._volume("/types", "volume_type", "admin", **wanted))
        access = {"addProjectAccess": {"project": PROJECT}}
        self.ask("POST", f"{VOLUME}/types/{kind}/action", access, "admin", headers=CINDER)
        body = {"default_type": {"volume_type": kind}}
        self.ask("PUT", f"{VOLUME}/default-types/{PROJECT}", body, "admin", headers=CINDER)
        self._keep("default-types", PROJECT)
        self.sealed = self._volume("/types", "volume_type", "admin", name="sealed")
        encryption = {"encryption": {"provider": "luks", "control_location": "front-end"}}
        made = self.ask("POST", f"{VOLUME}/types/{self.sealed}/encryption", encryption, "admin", headers=CINDER)
        self._keep("encryption", made["encryption"]["encryption_id"], private=False)
        self._keep("qos-specs", self._volume("/qos-specs", "qos_specs", "admin", name="q"), private=False)

    def _pool(self) -> str:
        pools = self.ask("GET", f"{VOLUME}/scheduler-stats/get_pools", caller="admin", headers=CINDER)["pools"]
        return str(pools[0]["name"])

    def _volume(self, path: str, key: str, caller: str = "demo", **fields: Any) -> str:
        return str(self.ask("POST", VOLUME + path, {key: fields}, caller, headers=CINDER)[key]["id"])

    def _make_for_other(self) -> dict[str, str]:
        """A few things of another project, by collection, for what one does to one's own with what is not one's own."""
        network = self._network("networks", "network", "other", name="theirs")
        subnet = self._network("subnets", "subnet", "other", network_id=network, ip_version=4, cidr="10.8.0.0/24")
        volume = self._volume("/volumes", "volume", "other", size=1)
        self.ask(
            "POST", f"{COMPUTE}/os-keypairs", {"keypair": {"name": "their-key", "public_key": PUBLIC_KEY}}, "other"
        )
        made = {
            "networks": network, "subnets": subnet, "volumes": volume, "v3": str(OTHER.project_id),
            "routers": self._network("routers", "router", "other"),
            "ports": self._network("ports", "port", "other", network_id=network),
            "security-groups": self._network("security-groups", "security_group", "other", name="g"),
            "floatingips": self._network("floatingips", "floatingip", "other", floating_network_id=self.external),
            "images": self.make_image("other"), "os-keypairs": "their-key",
            "os-server-groups": self._compute("/os-server-groups", "server_group", "other", name="g", policy=_POLICY),
        }  # fmt: skip
        self.cloud.run()
        self.ask("POST", f"{VOLUME}/volumes/{volume}/action", {"os-set_bootable": {"bootable": True}}, "other")
        made["snapshots"] = self._volume("/snapshots", "snapshot", "other", volume_id=volume)
        wanted = {"name": "theirs", "flavorRef": "nano", "imageRef": made["images"], "networks": "none"}
        made["servers"] = self._compute("/servers", "server", "other", **wanted)
        self.cloud.run()
        return made

    def _make_placement(self) -> None:
        """A provider beside the node's, of which nothing is taken."""
        provider = self._keep("resource_providers", new_id(), private=False)
        path = f"{PLACEMENT}/resource_providers"
        self.ask("POST", path, {"name": "paint", "uuid": provider}, "admin", headers=NEWEST)
        self._keep("inventories", "VCPU", private=False)
        stock = {"resource_provider_generation": 0, "inventories": {"VCPU": {"total": 4}}}
        self.ask("PUT", f"{path}/{provider}/inventories", stock, "admin", headers=NEWEST)
        for kind, name in (("resource_classes", "CUSTOM_BRUSH"), ("traits", "CUSTOM_BLUE")):
            self.ask("PUT", f"{PLACEMENT}/{kind}/{name}", caller="admin", headers=NEWEST)
            self._keep(kind, name, private=False)

    def provider_generation(self) -> int:
        """Of the node's resource provider, which changes of it must name."""
        path = f"{PLACEMENT}/resource_providers/{self.named('resource_providers')}"
        return int(self.ask("GET", path, caller="admin", headers=NEWEST)["generation"])

    def _make_compute(self) -> None:
        for name, size in (("nano", 1), ("micro", 2), ("hidden", 3)):
            flavor = {"name": name, "id": name, "ram": 64 * size, "vcpus": size, "disk": size,
                      "os-flavor-access:is_public": name != "hidden"}  # fmt: skip
            self._compute("/flavors", "flavor", "admin", **flavor)
        self._keep("flavors", "nano", private=False)
        self.ask("POST", f"{COMPUTE}/flavors/nano/os-extra_specs", {"extra_specs": {"k": "v"}}, "admin", headers=NOVA)
        self._keep("os-keypairs", "demo-key")
        self.ask("POST", f"{COMPUTE}/os-keypairs", {"keypair": {"name": "demo-key", "public_key": PUBLIC_KEY}})
        group = self._compute("/os-server-groups", "server_group", name="g", policy=_POLICY)
        self._keep("os-server-groups", group)
        self._make_servers()
        self._keep("os-aggregates", self._compute("/os-aggregates", "aggregate", "admin", name="a"), private=False)
        for segment, path, key in (
            ("os-services", "/os-services?binary=nova-compute", "services"),
            ("os-hypervisors", "/os-hypervisors", "hypervisors"),
        ):  # fmt: skip
            found = self.ask("GET", COMPUTE + path, caller="admin", headers=NOVA)[key][0]["id"]
            self._keep(segment, found, private=False)
        hosts = self.ask("GET", f"{COMPUTE}/os-hosts", caller="admin")["hosts"]
        self._keep("os-hosts", next(h["host_name"] for h in hosts if h["service"] == "compute"), private=False,
                   service="nova")  # fmt: skip
        self._keep("extensions", "os-keypairs", private=False, service="nova")
        self._keep("os-simple-tenant-usage", PROJECT)
        self._keep("os-instance_usage_audit_log", "2026-01-01 00:00:00", private=False)
        forwarded = {"os-networks": "networks", "os-tenant-networks": "networks", "os-snapshots": "snapshots",
                     "os-floating-ips": "floatingips", "os-security-groups": "security-groups"}  # fmt: skip
        for old, segment in forwarded.items():
            self._keep(old, self.named(segment))
        self._keep("os-volumes", self.named("volumes", "cinder"))

    def _make_servers(self) -> None:
        """One that runs and has everything, and one in each state from which some action leads."""
        ports = [self.named("ports"), *(self._network("ports", "port", network_id=self.named("networks"))
                                        for _ in STATES)]  # fmt: skip
        more = {"metadata": {"k": "v"}, "tags": ["blue"], "key_name": "demo-key"}
        made = [self._compute("/servers", "server", name="one", flavorRef="nano", imageRef=self.named("images"),
                              networks=[{"port": port}], **more) for port in ports]  # fmt: skip
        server = self._keep("servers", made[0])
        self.in_state = dict(zip(STATES, made[1:], strict=True))
        self._keep("allocations", server)
        self._keep("os-interface", self.named("ports"))
        self.cloud.run()
        base = f"{COMPUTE}/servers/{server}"
        body = {"volumeAttachment": {"volumeId": self.spare}}
        self.ask("POST", f"{base}/os-volume_attachments", body, headers=NOVA)
        self._keep("os-volume_attachments", self.spare)
        self.cloud.run()
        console = self.ask("POST", f"{base}/action", {"os-getVNCConsole": {"type": "novnc"}})["console"]
        self._keep("os-console-auth-tokens", re.split("token%3D|token=", console["url"])[-1])
        for state, action in STATES.items():
            path = f"{COMPUTE}/servers/{self.in_state[state]}"
            self.ask("POST", f"{path}/action", action)
            self.cloud.run()
            assert self.ask("GET", path, headers=NOVA)["server"]["status"] == state
        self._keep("migrations", "1", private=False)
        actions = self.ask("GET", f"{base}/os-instance-actions", headers=NOVA)["instanceActions"]
        self._keep("os-instance-actions", actions[-1]["request_id"])
        self._keep("ips", "net", private=False)
        self._keep("servers/tags", "blue", private=False, service="nova")

    def _compute(self, path: str, key: str, caller: str = "demo", **fields: Any) -> str:
        return str(self.ask("POST", COMPUTE + path, {key: fields}, caller, headers=NOVA)[key]["id"])


PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGj0Y6QmJwV3mTvT0dGmWc1GZ8y9oX0m7rP6yV5yqg0V demo"
