"""The `openstack` command's identity part, each command once, against a running cloud."""

import json
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from openstackclient.shell import OpenStackShell

from identity_cloud import PASSWORD, IdentityCloud
from pileus.http.app import App

COMMANDS_USED: set[str] = set()
# `service provider` is used in test_identity_service_providers.py.
COMMANDS = {name for entry in entry_points(group="openstack.identity.v3")
            if not (name := entry.name.replace("_", " ")).startswith("service provider ")}  # fmt: skip


class Shell:
    """The command, run in this process as one user."""

    def __init__(self, url: str, capsys: Any, user: str = "admin", password: str = PASSWORD):
        self.url, self.capsys, self.user, self.password = url, capsys, user, password

    def __call__(self, command: str, *more: str, quiet: bool = False) -> Any:
        """Run it; what it printed as JSON, None when it prints nothing."""
        login = ["--os-auth-url", f"{self.url}/identity/v3", "--os-username", self.user, "--os-password",
                 self.password, "--os-project-name", self.user, "--os-user-domain-id", "default",
                 "--os-project-domain-id", "default", "--os-region-name", "RegionOne"]  # fmt: skip
        COMMANDS_USED.add(command)
        self.capsys.readouterr()
        status = OpenStackShell().run([*login, *command.split(), *more, *([] if quiet else ["-f", "json"])])
        said = self.capsys.readouterr()
        # `federation protocol set` gives what it would show as its status.
        assert status == 0 or isinstance(status, tuple), (command, said.err)
        return None if quiet else json.loads(said.out)

    def quietly(self, command: str, *more: str) -> None:
        self(command, *more, quiet=True)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[IdentityCloud]:
    made = IdentityCloud(tmp_path)
    yield made
    made.close()


@pytest.fixture
def shell(cloud: IdentityCloud, serve: Callable[[App], str], capsys: Any) -> Shell:
    address = serve(cloud.direct.app)
    cloud.bootstrap(url=address)
    return Shell(address, capsys)


def objects_of_identity(shell: Shell) -> None:
    domain = shell("domain create far")["id"]
    project = shell("project create p --domain far --tag blue --property note=x")
    assert shell("project show p --domain far")["tags"] == ["blue"]
    shell.quietly("project set p --domain far --description d")
    assert [p["Name"] for p in shell("project list --domain far --tags blue")] == ["p"]
    user = shell("user create eve --domain far --password secret --email e@x")
    shell.quietly(f"user set {user['id']} --description d --disable")
    assert shell(f"user show {user['id']}")["enabled"] is False
    shell.quietly(f"user set {user['id']} --enable")
    assert [u["Name"] for u in shell("user list --domain far")] == ["eve"]
    group = shell("group create g --domain far")["id"]
    shell.quietly("group add user g eve --group-domain far --user-domain far")
    assert [u["Name"] for u in shell(f"user list --group {group}")] == ["eve"]
    shell.quietly("group contains user g eve --group-domain far --user-domain far")
    shell("role create painter")
    shell("implied role create painter --implied-role reader")
    assert {r["Prior Role Name"] for r in shell("implied role list")} >= {"painter"}
    shell.quietly(f"role add painter --group g --group-domain far --project {project['id']}")
    listed = shell(f"role assignment list --effective --names --project {project['id']}")
    assert {(line["Role"], line["User"]) for line in listed} == {("painter", "eve@far"), ("reader", "eve@far")}
    shell.quietly(f"role remove painter --group g --group-domain far --project {project['id']}")
    shell.quietly("group remove user g eve --group-domain far --user-domain far")
    shell.quietly("implied role delete painter --implied-role reader")
    for command in ("group delete g --domain far", f"user delete {user['id']}", f"project delete {project['id']}",
                    "role delete painter", f"domain set {domain} --disable", f"domain delete {domain}"):  # fmt: skip
        shell.quietly(command)


def what_users_delegate(shell: Shell, cloud: IdentityCloud) -> None:
    ann, ben = cloud.person("ann"), cloud.person("ben")
    mine = Shell(shell.url, shell.capsys, "ann", "secret")
    place = f"--project {ann['project_id']} --role {cloud.role_id('member')}"
    trust = mine(f"trust create {place} --impersonate {ann['id']} {ben['id']}")
    assert mine("trust show", trust["id"])["trustee_user_id"] == ben["id"]
    assert [t["ID"] for t in shell("trust list")] == [trust["id"]]
    mine.quietly("trust delete", trust["id"])
    rules = '[{"service": "compute", "method": "GET", "path": "/v2.1/servers"}]'
    made = mine("application credential create c --access-rules", rules)
    assert mine("application credential show c")["ID"] == made["ID"]
    assert len(mine("application credential list")) == 1
    [rule] = mine("access rule list")
    assert mine("access rule show", rule["ID"])["Path"] == "/v2.1/servers"
    mine.quietly("application credential delete c")
    mine.quietly("access rule delete", rule["ID"])
    key = mine("ec2 credentials create")
    assert mine("ec2 credentials show", key["access"])["project_id"] == ann["project_id"]
    assert len(mine("ec2 credentials list")) == 1
    mine.quietly("ec2 credentials delete", key["access"])
    token = mine("token issue")
    assert token["project_id"] == ann["project_id"]
    shell.quietly("token revoke", token["id"])


def what_operators_keep(shell: Shell, tmp_path: Path) -> None:
    made = shell("credential create admin seed --type totp")
    assert shell("credential show", made["id"])["blob"] == "seed"
    shell.quietly("credential set --user admin --type totp --data other", made["id"])
    assert [c["Data"] for c in shell("credential list --type totp")] == ["other"]
    shell.quietly("credential delete", made["id"])
    shell("registered limit create --service compute --default-limit 5 --region RegionOne servers")
    [limit] = shell("registered limit list --resource-name servers")
    shell("limit create --service compute --resource-limit 7 --region RegionOne --project admin servers")
    [own] = shell("limit list")
    assert shell("limit show", own["ID"])["resource_limit"] == 7
    assert shell("limit set --resource-limit 8", own["ID"])["resource_limit"] == 8
    assert shell("registered limit set --default-limit 6", limit["ID"])["default_limit"] == 6
    assert shell("registered limit show", limit["ID"])["default_limit"] == 6
    assert [x["ID"] for x in shell("limit list --resource-name servers --project admin")] == [own["ID"]]
    shell.quietly("limit delete", own["ID"])
    shell.quietly("registered limit delete", limit["ID"])
    consumer = shell("consumer create --description c")
    shell.quietly("consumer set --description d", consumer["id"])
    assert [c["Description"] for c in shell("consumer list")] == ["d"]
    shell.quietly("consumer delete", consumer["id"])
    (tmp_path / "rules.json").write_text("{}")
    policy = shell("policy create", str(tmp_path / "rules.json"))
    assert shell("policy show", policy["id"])["type"] == "application/json"
    shell.quietly("policy delete", policy["id"])
    (tmp_path / "filters.json").write_text('{"interface": "public"}')
    group = shell("endpoint group create eg", str(tmp_path / "filters.json"))
    shell.quietly("endpoint group add project eg admin")
    assert [g["ID"] for g in shell("endpoint group list")] == [group["id"]]
    shell.quietly("endpoint group remove project eg admin")
    shell.quietly("endpoint group delete eg")
    service = shell("service create painting --name paint")
    endpoint = shell("endpoint create paint public http://paint --region RegionOne")
    shell("project create painters")
    shell.quietly(f"endpoint add project {endpoint['id']} painters")
    assert [e["ID"] for e in shell("endpoint list --project painters")] == [endpoint["id"]]
    shell.quietly(f"endpoint remove project {endpoint['id']} painters")
    shell.quietly("endpoint delete", endpoint["id"])
    shell.quietly("service delete", service["id"])
    shell("region create town")
    assert "town" in [r["Region"] for r in shell("region list")]
    shell.quietly("region delete town")
    assert {c["Name"] for c in shell("catalog list")} >= {"keystone", "nova"}


def who_else_knows_users(shell: Shell, tmp_path: Path) -> None:
    """Federation; how users come in by it is tested with the providers themselves."""
    rule = {"remote": [{"type": "OIDC-sub"}], "local": [{"user": {"name": "{0}"}}]}
    (tmp_path / "mapping.json").write_text(json.dumps([rule]))
    assert shell("mapping create acme --rules", str(tmp_path / "mapping.json"))["id"] == "acme"
    rule["local"].append({"group": {"id": "g"}})
    (tmp_path / "mapping.json").write_text(json.dumps([rule]))
    shell.quietly("mapping set acme --rules", str(tmp_path / "mapping.json"))
    assert "g" in str(shell("mapping show acme")["rules"])
    assert [m["ID"] for m in shell("mapping list")] == ["acme"]
    shell("domain create acme")
    made = shell("identity provider create acme --domain acme --remote-id https://a --authorization-ttl 30 --disable")
    assert made["authorization_ttl"] == 30 and made["enabled"] is False
    shell.quietly("identity provider set acme --enable --remote-id https://b --description d")
    shown = shell("identity provider show acme")
    assert (shown["enabled"], shown["remote_ids"], shown["description"]) == (True, ["https://b"], "d")
    assert [p["ID"] for p in shell("identity provider list")] == ["acme"]
    protocol = shell("federation protocol create openid --identity-provider acme --mapping acme")
    assert protocol["mapping"] == "acme"
    shell.quietly("federation protocol set openid --identity-provider acme --mapping acme")
    assert shell("federation protocol show openid --identity-provider acme")["id"] == "openid"
    assert [p["id"] for p in shell("federation protocol list --identity-provider acme")] == ["openid"]
    assert "admin" in [p["Name"] for p in shell("federation project list")]
    assert [d["Name"] for d in shell("federation domain list")] == ["Default"]
    shell.quietly("federation protocol delete openid --identity-provider acme")
    shell.quietly("identity provider delete acme")
    shell.quietly("mapping delete acme")


def what_else_can_be_typed(shell: Shell, cloud: IdentityCloud, tmp_path: Path) -> None:
    """Commands that show and change what others above made."""
    for kind, made in (("domain", "d2"), ("group", "g2"), ("role", "r2"), ("region", "t2")):
        shell(f"{kind} create {made}")
        shell.quietly(f"{kind} set {made} --description changed")
        assert shell(f"{kind} show {made}")["description"] == "changed"
    assert {g["Name"] for g in shell("group list")} >= {"g2"}
    service = shell("service create painting --name paint2")["id"]
    shell.quietly(f"service set {service} --description changed")
    assert shell(f"service show {service}")["description"] == "changed"
    assert {s["Name"] for s in shell("service list")} >= {"paint2"}
    endpoint = shell("endpoint create paint2 public http://paint --region RegionOne")["id"]
    shell.quietly(f"endpoint set {endpoint} --url http://other")
    assert shell(f"endpoint show {endpoint}")["url"] == "http://other"
    assert shell("catalog show paint2")["name"] == "paint2"
    filters = tmp_path / "filters2.json"
    filters.write_text('{"interface": "public"}')
    shell("endpoint group create eg2", str(filters))
    shell.quietly("endpoint group set eg2 --description changed")
    assert shell("endpoint group show eg2")["description"] == "changed"
    filters.write_text("{}")
    policy = shell("policy create", str(filters))["id"]
    shell.quietly(f"policy set {policy} --type text/plain")
    assert [p["Type"] for p in shell("policy list")] == ["text/plain"]
    assert {r["Name"] for r in shell("role list")} >= {"r2"} and {d["Name"] for d in shell("domain list")} >= {"d2"}
    shell("project create p2")
    assert "p2" in {p["Name"] for p in shell("project list")}
    cloud.person("dan")
    mine = Shell(shell.url, shell.capsys, "dan", "secret")
    mine.quietly("user password set --original-password secret --password another")
    assert cloud.token("dan", "another")
    consumer = shell("consumer create --description c")
    assert shell("consumer show", consumer["id"])["description"] == "c"
    keys = f"--consumer-key {consumer['id']} --consumer-secret {consumer['secret']}"
    asked = shell(f"request token create {keys} --project admin")
    yes = shell(f"request token authorize --request-key {asked['id']} --role member")
    request = f"--request-key {asked['id']} --request-secret {asked['secret']} --verifier {yes['oauth_verifier']}"
    assert shell(f"access token create {keys} {request}")["secret"]


def test_every_command_of_identity_does_what_it_says(shell: Shell, cloud: IdentityCloud, tmp_path: Path) -> None:
    """One cloud for all: the command remembers the address of the first in its process."""
    objects_of_identity(shell)
    what_users_delegate(shell, cloud)
    what_operators_keep(shell, tmp_path)
    who_else_knows_users(shell, tmp_path)
    what_else_can_be_typed(shell, cloud, tmp_path)
    unused = {name for name in COMMANDS if not any(f"{used} ".startswith(f"{name} ") for used in COMMANDS_USED)}
    assert not unused, sorted(unused)
