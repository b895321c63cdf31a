"""The networking API alone, for the tests of its resources."""

from pathlib import Path
from typing import Any

from direct import Answer, Direct
from pileus.network.facade import SERVICE, inconsistencies

B = "/networking/v2.0"
PATHS = {"security_group": "security-groups", "security_group_rule": "security-group-rules"}
OK = {"GET": 200, "POST": 201, "PUT": 200, "DELETE": 204}


class Networking:
    """Calls that must succeed (`call`, `make`, …) and calls that must be refused (`refused`)."""

    def __init__(self, folder: Path):
        self.api = Direct([SERVICE], folder)
        self.db = self.api.db

    def ask(self, method: str, path: str, body: Any = None, caller: str = "demo", **how: Any) -> Answer:
        return self.api(method, B + path, body, caller=caller, **how)

    def call(self, method: str, path: str, body: Any = None, caller: str = "demo", ok: int = 0, **how: Any) -> Any:
        answer = self.ask(method, path, body, caller, **how)
        assert answer.status == (ok or OK[method]), answer
        return answer.json

    def refused(self, status: int, kind: str, method: str, path: str, body: Any = None, caller: str = "demo",
                **how: Any) -> str:  # fmt: skip
        """The message of a refusal with this status and type."""
        answer = self.ask(method, path, body, caller, **how)
        assert answer.status == status, answer
        error = answer.json["NeutronError"]
        assert error["type"] == kind and error["detail"] == "", error
        return str(error["message"])

    def path(self, kind: str, thing: Any = None) -> str:
        base = "/" + PATHS.get(kind, kind + "s")
        return base if thing is None else f"{base}/{thing if isinstance(thing, str) else thing['id']}"

    def make(self, kind: str, caller: str = "demo", **given: Any) -> Any:
        return self.call("POST", self.path(kind), {kind: given}, caller)[kind]

    def cannot_make(self, status: int, refusal: str, kind: str, caller: str = "demo", **given: Any) -> str:
        return self.refused(status, refusal, "POST", self.path(kind), {kind: given}, caller)

    def get(self, kind: str, thing: Any, caller: str = "demo") -> Any:
        return self.call("GET", self.path(kind, thing), caller=caller)[kind]

    def change(self, kind: str, thing: Any, caller: str = "demo", **given: Any) -> Any:
        return self.call("PUT", self.path(kind, thing), {kind: given}, caller)[kind]

    def cannot_change(
        self, status: int, refusal: str, kind: str, thing: Any, caller: str = "demo", **given: Any
    ) -> str:
        return self.refused(status, refusal, "PUT", self.path(kind, thing), {kind: given}, caller)

    def delete(self, kind: str, thing: Any, caller: str = "demo") -> None:
        self.call("DELETE", self.path(kind, thing), caller=caller)
        assert self.ask("GET", self.path(kind, thing), caller=caller).status == 404

    def cannot_delete(self, status: int, refusal: str, kind: str, thing: Any, caller: str = "demo") -> str:
        return self.refused(status, refusal, "DELETE", self.path(kind, thing), caller=caller)

    def ids(self, kind: str, query: str = "", caller: str = "demo") -> list[str]:
        listed = self.call("GET", f"{self.path(kind)}{query}", caller=caller)
        return [one["id"] for one in listed[kind + "s"]]

    def tenant(self, cidr: str = "10.0.0.0/24", caller: str = "demo", **given: Any) -> tuple[Any, Any]:
        """A network with a subnet."""
        net = self.make("network", caller, **given)
        version = 6 if ":" in cidr else 4
        return net, self.make("subnet", caller, network_id=net["id"], ip_version=version, cidr=cidr)

    def outside(self, cidr: str = "172.24.4.0/24") -> Any:
        """An external network."""
        net = self.make(
            "network", "admin", name="public", **{"router:external": True, "provider:network_type": "flat",
                                                  "provider:physical_network": f"p{cidr.split('.')[0]}"},
        )  # fmt: skip
        self.make("subnet", "admin", network_id=net["id"], ip_version=4, cidr=cidr, enable_dhcp=False)
        return net

    def routed(self) -> tuple[Any, Any, Any, Any]:
        """A network, its subnet, an external network, and a router between them."""
        net, subnet = self.tenant()
        ext = self.outside()
        router = self.make("router", external_gateway_info={"network_id": ext["id"]})
        self.interface("add", router, subnet_id=subnet["id"])
        return net, subnet, ext, router

    def interface(self, verb: str, router: Any, **body: str) -> Any:
        return self.call("PUT", f"/routers/{router['id']}/{verb}_router_interface", body)

    def close(self) -> None:
        assert self.db.read(inconsistencies) == []
        self.db.close()
        self.api.loop.close()
