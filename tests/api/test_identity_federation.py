"""Federation: providers, protocols, mappings, and whom their assertions log in (attacks S13 and S14)."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from direct import Answer
from identity_cloud import IdentityCloud
from pileus.core.context import ANONYMOUS, Context
from pileus.core.errors import Forbidden, NotFound, Unauthorized
from pileus.core.op import Reply
from pileus.identity.federation.federated_login import log_in
from pileus.identity.rows import MEMBERSHIPS
from pileus.identity.watched import version

FEDERATION = "/OS-FEDERATION"
NAME = {"type": "NAME"}


class Federated:
    """A cloud that trusts a provider `idp`, and logs in whom it asserts."""

    def __init__(self, cloud: IdentityCloud):
        self.cloud = cloud

    def put(self, path: str, key: str, **fields: Any) -> dict[str, Any]:
        answer = self.cloud("PUT", f"{FEDERATION}/{path}", {key: fields})
        assert answer.status == 201, answer
        found: dict[str, Any] = answer.json[key]
        return found

    def provider(self, idp: str, *local: Mapping[str, Any], protocol: str = "openid", **fields: Any) -> dict[str, Any]:
        """A provider with a protocol whose mapping has one rule, over NAME and GROUPS."""
        version = fields.pop("schema_version", "1.0")
        attribute = {"remote_id_attribute": a} if (a := fields.pop("remote_id_attribute", None)) else {}
        rules = [{"remote": [NAME, {"type": "GROUPS"}], "local": list(local)}]
        self.put(f"mappings/{idp}", "mapping", rules=rules, schema_version=version)
        made = self.put(f"identity_providers/{idp}", "identity_provider", **{"enabled": True, **fields})
        self.put(f"identity_providers/{idp}/protocols/{protocol}", "protocol", mapping_id=idp, **attribute)
        return made

    def log_in(self, idp: str, *, protocol: str = "openid", now: float = 0.0, **attributes: Any) -> Reply:
        """What a checked assertion gets; NAME is ann and GROUPS has one unless told otherwise."""
        given = {"NAME": ["ann"], "GROUPS": ["dev"], **attributes}
        app = self.cloud.direct.app

        def work(tx: Any) -> Reply:
            ctx = Context(tx, ANONYMOUS, now=now or time.time(), enforcer=app.enforcer, settings=app.settings)
            return log_in(ctx, idp, protocol, given)

        return self.cloud.db.transact(work)

    def token(self, idp: str, **how: Any) -> str:
        return self.log_in(idp, **how).headers["x-subject-token"]

    def scoped(self, token: str, project_id: str) -> Answer:
        return self.cloud.log_in({"token": {"id": token}}, {"project": {"id": project_id}})

    def group(self, name: str, project_id: str = "", role: str = "member") -> str:
        """A group in the default domain, with a role on a project."""
        made = self.cloud.make("/groups", "group", name=name)
        if project_id:
            self.cloud.grant(f"/projects/{project_id}", f"/groups/{made['id']}", role)
        return str(made["id"])

    def project(self, name: str) -> str:
        return str(self.cloud.make("/projects", "project", name=name)["id"])


USER = {"user": {"name": "{0}"}}
GROUPS = {"groups": "{1}", "domain": {"id": "default"}}


@pytest.fixture
def federated(tmp_path: Any) -> Iterator[Federated]:
    cloud = IdentityCloud(tmp_path)
    yield Federated(cloud)
    cloud.close()


def user_of(reply: Reply) -> dict[str, Any]:
    found: dict[str, Any] = reply.body["token"]["user"]
    return found


# providers, protocols, mappings


def test_providers_are_made_shown_listed_changed_and_removed(federated: Federated) -> None:
    cloud = federated.cloud
    made = federated.put("identity_providers/acme", "identity_provider", remote_ids=["b", "a"], authorization_ttl=5)
    here = "http://cloud:5000/identity/v3/OS-FEDERATION/identity_providers/acme"
    assert made["links"] == {"self": here, "protocols": f"{here}/protocols"}
    assert (made["enabled"], made["remote_ids"], made["authorization_ttl"]) == (False, ["a", "b"], 5)
    domain = cloud("GET", f"/domains/{made['domain_id']}").json["domain"]
    assert "acme" in domain["description"]
    federated.put("identity_providers/other", "identity_provider", domain_id="default", enabled=True, description="d")
    path = f"{FEDERATION}/identity_providers"
    assert [p["id"] for p in cloud("GET", path).json["identity_providers"]] == ["acme", "other"]
    assert [p["id"] for p in cloud("GET", f"{path}?enabled=true").json["identity_providers"]] == ["other"]
    assert [p["id"] for p in cloud("GET", f"{path}?id=acme").json["identity_providers"]] == ["acme"]
    changed = cloud("PATCH", f"{path}/acme", {"identity_provider": {"enabled": True, "remote_ids": ["c"]}})
    assert changed.status == 200 and changed.json["identity_provider"]["remote_ids"] == ["c"]
    assert cloud("GET", f"{path}/acme").json == changed.json
    assert cloud("DELETE", f"{path}/acme").status == 204
    assert cloud("GET", f"{path}/acme").status == 404


def test_what_providers_are_refused_for(federated: Federated) -> None:
    cloud, path = federated.cloud, f"{FEDERATION}/identity_providers"
    federated.put("identity_providers/acme", "identity_provider", remote_ids=["a"])

    def refused(method: str, idp: str, **fields: Any) -> int:
        return cloud(method, f"{path}/{idp}", {"identity_provider": fields}).status

    assert refused("PUT", "acme") == 409
    assert refused("PUT", "other", remote_ids=["a"]) == 409
    assert refused("PUT", "other", domain_id="nowhere") == 404
    assert refused("PUT", "other", authorization_ttl=-1) == 400
    assert refused("PUT", "other", color="red") == 400
    assert refused("PATCH", "acme", domain_id="default") == 400
    assert refused("PATCH", "unknown", enabled=True) == 404
    assert refused("PUT", "x" * 65) == 400


def test_protocols_are_made_shown_listed_changed_and_removed(federated: Federated) -> None:
    cloud, rules = federated.cloud, [{"remote": [NAME], "local": [USER]}]
    for mapping in ("m", "n"):
        made = federated.put(f"mappings/{mapping}", "mapping", rules=rules)
    assert made["rules"] == rules and made["schema_version"] == "1.0" and made["links"]["self"].endswith("/mappings/n")
    federated.put("identity_providers/acme", "identity_provider")
    path = "identity_providers/acme/protocols/saml2"
    made = federated.put(path, "protocol", mapping_id="m")
    provider = "http://cloud:5000/identity/v3/OS-FEDERATION/identity_providers/acme"
    assert made["links"] == {"self": f"{provider}/protocols/saml2", "identity_provider": provider}
    assert cloud("PUT", f"{FEDERATION}/{path}", {"protocol": {"mapping_id": "m"}}).status == 409
    wrong = cloud("PUT", f"{FEDERATION}/{path}x", {"protocol": {"mapping_id": "unknown"}})
    assert wrong.status == 400 and "mapping_id" in wrong.json["error"]["message"]
    assert (
        cloud("PUT", f"{FEDERATION}/identity_providers/no/protocols/x", {"protocol": {"mapping_id": "m"}}).status == 404
    )
    changed = cloud("PATCH", f"{FEDERATION}/{path}", {"protocol": {"mapping_id": "n", "remote_id_attribute": "ISS"}})
    assert changed.status == 200 and changed.json["protocol"]["mapping_id"] == "n"
    (listed,) = cloud("GET", f"{FEDERATION}/identity_providers/acme/protocols").json["protocols"]
    assert (listed["id"], listed["idp_id"], listed["remote_id_attribute"]) == ("saml2", "acme", "ISS")
    assert cloud("GET", f"{FEDERATION}/{path}").json == changed.json
    assert cloud("DELETE", f"{FEDERATION}/{path}").status == 204
    assert cloud("GET", f"{FEDERATION}/{path}").status == 404


def test_mappings_are_changed_within_the_schema_of_their_version(federated: Federated) -> None:
    cloud, path = federated.cloud, f"{FEDERATION}/mappings/m"
    local = {**USER, "projects": [{"name": "p", "roles": [{"name": "member"}], "domain": {"id": "default"}}]}
    rules = [{"remote": [NAME], "local": [local]}]
    refused = cloud("PUT", path, {"mapping": {"rules": rules}})
    assert refused.status == 400 and "domain" in refused.json["error"]["message"]
    assert cloud("PUT", path, {"mapping": {"rules": rules, "schema_version": "2.0"}}).status == 201
    assert cloud("PUT", path, {"mapping": {"rules": rules, "schema_version": "2.0"}}).status == 409
    assert cloud("PATCH", path, {"mapping": {"schema_version": "1.0"}}).status == 400
    assert cloud("PATCH", path, {"mapping": {"schema_version": "3.0"}}).status == 400
    simple = [{"remote": [NAME], "local": [USER]}]
    assert cloud("PATCH", path, {"mapping": {"rules": simple}}).json["mapping"]["rules"] == simple
    assert [m["id"] for m in cloud("GET", f"{FEDERATION}/mappings").json["mappings"]] == ["m"]
    assert cloud("DELETE", path).status == 204 and cloud("GET", path).status == 404


# logging in


def test_an_assertion_becomes_an_unscoped_token_that_is_rescoped(federated: Federated) -> None:
    project = federated.project("p")
    group = federated.group("dev", project)
    made = federated.provider("idp", {"user": {"id": "{0}", "name": "Ann", "email": "{0}@x"}}, GROUPS)
    reply = federated.log_in("idp")
    shown, token = user_of(reply), reply.headers["x-subject-token"]
    vouched = {"identity_provider": {"id": "idp"}, "protocol": {"id": "openid"}, "groups": [{"id": group}]}
    assert shown["OS-FEDERATION"] == vouched
    assert (shown["name"], shown["domain"]["id"]) == ("Ann", made["domain_id"])
    assert reply.body["token"]["methods"] == ["openid"] and "roles" not in reply.body["token"]
    for path in ("/auth/projects", f"{FEDERATION}/projects"):
        assert [p["id"] for p in federated.cloud("GET", path, token=token).json["projects"]] == [project]
    assert federated.cloud("GET", f"{FEDERATION}/domains", token=token).json["domains"] == []
    scoped = federated.scoped(token, project)
    assert scoped.status == 201, scoped
    body = scoped.json["token"]
    assert {r["name"] for r in body["roles"]} == {"member", "reader"}
    assert body["user"]["OS-FEDERATION"] == vouched and set(body["methods"]) == {"openid", "token"}
    assert body["expires_at"] <= reply.body["token"]["expires_at"], "CVE-2026-44394"
    checked = federated.cloud("GET", "/auth/tokens", headers={"x-subject-token": scoped.headers["x-subject-token"]})
    assert checked.json["token"]["user"]["OS-FEDERATION"] == vouched
    assert federated.cloud("GET", f"/users/{shown['id']}").json["user"]["email"] == "ann@x"


def test_a_user_is_known_by_provider_protocol_and_unique_id(federated: Federated) -> None:
    """S14: no provider speaks for another one's users, and no part of a name is cut off."""
    for idp in ("idp", "evil"):
        federated.provider(idp, USER, domain_id="default")
    federated.put("identity_providers/idp/protocols/saml2", "protocol", mapping_id="idp")
    ids = [user_of(federated.log_in(idp, protocol=protocol, NAME=[name]))["id"] for idp, protocol, name in (
        ("idp", "openid", "ann"), ("evil", "openid", "ann"), ("idp", "saml2", "ann"), ("idp", "openid", "ann@evil"),
        ("idp", "openid", "Ann"))]  # fmt: skip
    assert len(set(ids)) == 5
    assert user_of(federated.log_in("idp"))["id"] == ids[0], "the same user comes back"


def test_nobody_from_outside_is_taken_for_somebody_who_is_here(federated: Federated) -> None:
    federated.provider("idp", {"user": {"name": "{0}"}, "domain": {"id": "default"}}, schema_version="2.0")
    shown = user_of(federated.log_in("idp", NAME=["admin"]))
    admin = federated.cloud("GET", "/users?name=admin").json["users"][0]
    assert shown["domain"]["id"] == "default"
    assert shown["id"] != admin["id"] and shown["name"] != "admin" and shown["name"].startswith("admin (")
    assert federated.log_in("idp", NAME=["admin"]).body["token"]["user"]["name"] == shown["name"]


def test_without_groups_and_projects_nobody_reaches_a_project(federated: Federated) -> None:
    """S13: roles come from the mapping alone."""
    project = federated.project("p")
    federated.group("dev", project)
    federated.provider("idp", USER)
    token = federated.token("idp")
    assert federated.cloud("GET", "/auth/projects", token=token).json["projects"] == []
    assert federated.scoped(token, project).status == 401


def test_a_local_user_is_mapped_by_name_and_domain_or_by_id(federated: Federated) -> None:
    person = federated.cloud.person("ann")
    federated.provider("byname", {"user": {"name": "{0}", "type": "local", "domain": {"name": "Default"}}})
    federated.provider("byid", {"user": {"id": "{0}", "type": "local"}})
    for reply in (federated.log_in("byname"), federated.log_in("byid", NAME=[person["id"]])):
        assert user_of(reply)["id"] == person["id"] and "OS-FEDERATION" not in user_of(reply)
        assert federated.scoped(reply.headers["x-subject-token"], person["project_id"]).status == 201
    with pytest.raises(Unauthorized) as refusal:
        federated.log_in("byname", NAME=["nobody"])
    assert "does not exist" in refusal.value.reason


def test_projects_are_made_at_the_first_log_in_with_the_roles_of_the_mapping(federated: Federated) -> None:
    roles = [{"name": "member"}, {"name": "reader"}]
    made = federated.provider("idp", {**USER, "projects": [{"name": "of {0}", "roles": roles}]})
    for _ in range(2):
        token = federated.token("idp")
        (project,) = federated.cloud("GET", "/auth/projects", token=token).json["projects"]
        assert (project["name"], project["domain_id"]) == ("of ann", made["domain_id"])
    assert federated.scoped(token, project["id"]).status == 201
    there = federated.provider(
        "two", {**USER, "projects": [{"name": "p", "roles": roles, "domain": {"name": "Default"}}]},
        schema_version="2.0",
    )  # fmt: skip
    (project,) = federated.cloud("GET", "/auth/projects", token=federated.token("two")).json["projects"]
    assert project["domain_id"] == "default" != there["domain_id"]


@pytest.mark.parametrize(
    ("local", "why"),
    [
        ({"user": {"name": "{0}"}, "group": {"id": "nowhere"}}, "group 'nowhere'"),
        ({"user": {"name": "{0}"}, "groups": "dev", "domain": {"name": "nowhere"}}, "domain 'nowhere'"),
        ({"user": {"name": "{0}"}, "projects": [{"name": "p", "roles": [{"name": "king"}]}]}, "role 'king'"),
        ({"group_ids": "{1}"}, "neither id nor name"),
        ({"user": {"name": "{7}"}}, "no attribute"),
    ],
)
def test_who_is_mapped_to_nobody_gets_401_and_nothing_is_made(
    federated: Federated, local: dict[str, Any], why: str
) -> None:
    federated.provider("idp", local)
    before = [len(federated.cloud("GET", f"/{kind}").json[kind]) for kind in ("users", "projects")]
    with pytest.raises(Unauthorized) as refusal:
        federated.log_in("idp")
    assert why in refusal.value.reason and why not in refusal.value.message
    assert before == [len(federated.cloud("GET", f"/{kind}").json[kind]) for kind in ("users", "projects")]


def test_an_assertion_must_be_of_the_provider_that_is_named(federated: Federated) -> None:
    """S14: the remote ids of a provider are checked where the protocol names the attribute."""
    federated.provider("idp", USER, remote_ids=["https://idp"], remote_id_attribute="ISS")
    assert federated.token("idp", ISS=["https://idp"])
    for wrong in ({}, {"ISS": ["https://evil"]}, {"ISS": ["https://evil", "https://idp"]}, {"ISS": []}):
        with pytest.raises(Unauthorized) as refusal:
            federated.log_in("idp", **wrong)
        assert "remote id" in refusal.value.reason


def test_unknown_and_disabled_providers_log_in_nobody(federated: Federated) -> None:
    federated.provider("idp", USER)
    token = federated.token("idp")
    for idp, protocol in (("no", "openid"), ("idp", "no")):
        with pytest.raises(NotFound):
            federated.log_in(idp, protocol=protocol)
    path = f"{FEDERATION}/identity_providers/idp"
    for enabled in (False, True):
        assert federated.cloud("PATCH", path, {"identity_provider": {"enabled": enabled}}).status == 200
        assert not federated.cloud.valid(token), "its tokens ended when it was disabled"
        if not enabled:
            with pytest.raises(Forbidden):
                federated.log_in("idp")
    assert federated.cloud.valid(federated.token("idp"))


def test_users_go_with_their_provider_or_protocol(federated: Federated) -> None:
    federated.provider("idp", USER, domain_id="default")
    federated.put("identity_providers/idp/protocols/saml2", "protocol", mapping_id="idp")
    replies = [federated.log_in("idp", protocol=protocol) for protocol in ("openid", "saml2")]
    for reply, path in zip(reversed(replies), ("/protocols/saml2", ""), strict=True):
        assert federated.cloud("DELETE", f"{FEDERATION}/identity_providers/idp{path}").status == 204
        assert not federated.cloud.valid(reply.headers["x-subject-token"])
        assert federated.cloud("GET", f"/users/{user_of(reply)['id']}").status == 404


# whom a provider means by a user


def linked(unique_id: str, idp: str = "idp", protocol: str = "openid") -> list[dict[str, Any]]:
    return [{"idp_id": idp, "protocols": [{"protocol_id": protocol, "unique_id": unique_id}]}]


def test_users_show_and_are_found_by_whom_their_provider_means(federated: Federated) -> None:
    federated.provider("idp", USER)
    cloud, user = federated.cloud, user_of(federated.log_in("idp"))["id"]
    assert cloud("GET", f"/users/{user}").json["user"]["federated"] == linked("ann")
    for query in ("idp_id=idp", "protocol_id=openid", "unique_id=ann", "idp_id=idp&protocol_id=openid&unique_id=ann"):
        assert [u["id"] for u in cloud("GET", f"/users?{query}").json["users"]] == [user]
    assert cloud("GET", "/users?idp_id=idp&unique_id=bob").json["users"] == []
    admin = cloud("GET", "/users?name=admin").json["users"][0]["id"]
    assert "federated" not in cloud("GET", f"/users/{admin}").json["user"]


def test_an_administrator_says_whom_a_provider_will_mean(federated: Federated) -> None:
    made = federated.provider("idp", USER, domain_id="default")
    user = federated.cloud.make("/users", "user", name="Ann", federated=linked("ann"))
    assert user["federated"] == linked("ann") and user["domain_id"] == made["domain_id"]
    reply = federated.log_in("idp")
    assert user_of(reply)["id"] == user["id"], "who comes for the first time is who was expected"
    path, token = f"/users/{user['id']}", reply.headers["x-subject-token"]
    changed = federated.cloud("PATCH", path, {"user": {"federated": linked("bob")}})
    assert changed.json["user"]["federated"] == linked("bob") and not federated.cloud.valid(token)
    assert user_of(federated.log_in("idp", NAME=["bob"]))["id"] == user["id"] != user_of(federated.log_in("idp"))["id"]
    assert "federated" not in federated.cloud("PATCH", path, {"user": {"federated": []}}).json["user"]


def test_links_to_nobody_and_to_somebody_elses_are_refused(federated: Federated) -> None:
    federated.provider("idp", USER)
    federated.log_in("idp")

    def refused(given: Any, token: str | None = None) -> int:
        answer = federated.cloud("POST", "/users", {"user": {"name": "x", "federated": given}}, token=token)
        assert "federated" in answer.json["error"]["message"], answer
        return answer.status

    assert refused(linked("x", idp="no")) == 400 and refused(linked("x", protocol="no")) == 400
    assert refused(linked("ann")) == 409
    assert refused([*linked("x"), *linked("y")]) == 400 and refused([{"idp_id": "idp"}]) == 400
    keeper = federated.cloud.make("/users", "user", name="keeper", password="secret")
    federated.cloud.grant("/domains/default", f"/users/{keeper['id']}", "manager")
    assert refused(linked("x"), federated.cloud.token("keeper", "secret", domain="Default")) == 403
    assert federated.cloud("GET", "/users?name=x").json["users"] == []


# memberships that end


def test_a_membership_ends_by_itself_and_takes_the_roles_with_it(federated: Federated) -> None:
    project = federated.project("p")
    group = federated.group("dev", project)
    federated.provider("idp", USER, GROUPS, authorization_ttl=30)
    now = time.time()
    alive = federated.log_in("idp", now=now)
    user, token = user_of(alive)["id"], alive.headers["x-subject-token"]
    scoped = federated.scoped(token, project).headers["x-subject-token"]
    effective = f"/role_assignments?effective&user.id={user}"
    assert len(federated.cloud("GET", effective).json["role_assignments"]) > 0
    assert federated.cloud("GET", f"/groups/{group}/users/{user}").status == 204
    assert federated.cloud.valid(scoped)
    expire(federated, user)
    assert not federated.cloud.valid(scoped), "the role is gone, and with it the token"
    assert federated.cloud.valid(token), "who has no role may still ask what there is"
    assert federated.cloud("GET", effective).json["role_assignments"] == []
    assert federated.cloud("GET", f"/groups/{group}/users").json["users"] == []
    assert federated.cloud("GET", f"/users/{user}/groups").json["groups"] == []
    assert federated.cloud("GET", f"/groups/{group}/users/{user}").status == 404
    assert federated.cloud("GET", "/auth/projects", token=token).json["projects"] == []
    assert federated.scoped(token, project).status == 401
    assert federated.token("idp") and federated.cloud.valid(scoped), "the next log-in brings it back"


def test_what_a_user_delegated_rests_on_the_membership_too(federated: Federated) -> None:
    project = federated.project("p")
    federated.group("dev", project)
    federated.provider("idp", USER, GROUPS)
    helper = federated.cloud.person("helper")
    reply = federated.log_in("idp")
    user = user_of(reply)["id"]
    scoped = federated.scoped(reply.headers["x-subject-token"], project).headers["x-subject-token"]
    credential = federated.cloud.make(
        f"/users/{user}/application_credentials", "application_credential", token=scoped, name="c"
    )
    trust = federated.cloud.make(
        "/OS-TRUST/trusts", "trust", token=scoped, trustor_user_id=user, trustee_user_id=helper["id"],
        project_id=project, impersonation=True, roles=[{"name": "member"}],
    )  # fmt: skip

    def tokens() -> list[str]:
        secret = {"id": credential["id"], "secret": credential["secret"]}
        found = [federated.cloud.log_in({"application_credential": secret}),
                 federated.cloud.by_password("helper", "secret", {"OS-TRUST:trust": {"id": trust["id"]}})]  # fmt: skip
        return [answer.headers["x-subject-token"] for answer in found if answer.status == 201]

    delegated = tokens()
    assert len(delegated) == 2 and all(federated.cloud.valid(token) for token in delegated)
    expire(federated, user)
    assert not any(federated.cloud.valid(token) for token in delegated) and tokens() == []
    federated.log_in("idp")
    assert len(tokens()) == 2, "the next log-in brings it back"


def expire(federated: Federated, user: str, seconds: float = 0.0) -> None:
    """Let the memberships of a user end so many seconds from now."""
    ends = {"expires_at": time.time() + seconds}
    federated.cloud.db.transact(lambda tx: MEMBERSHIPS.update(tx, ends, user_id=user, idp_id="idp"))


def test_a_remembered_token_is_judged_anew_when_a_membership_ends(federated: Federated) -> None:
    project = federated.project("p")
    federated.group("dev", project)
    federated.provider("idp", USER, GROUPS)
    reply = federated.log_in("idp")
    scoped = federated.scoped(reply.headers["x-subject-token"], project).headers["x-subject-token"]
    expire(federated, user_of(reply)["id"], 0.5)
    assert federated.cloud.valid(scoped), "it is judged, and remembered"
    time.sleep(0.6)
    assert not federated.cloud.valid(scoped)


def test_a_group_that_the_provider_no_longer_names_is_lost_at_the_next_log_in(federated: Federated) -> None:
    project = federated.project("p")
    federated.group("dev", project)
    federated.provider("idp", USER, GROUPS, authorization_ttl=1000)
    scoped = federated.scoped(federated.token("idp"), project).headers["x-subject-token"]
    federated.log_in("idp", GROUPS=["unknown"])
    assert not federated.cloud.valid(scoped)


def test_a_log_in_that_changes_nothing_makes_no_token_be_judged_anew(federated: Federated) -> None:
    federated.group("dev")
    federated.group("ops")
    federated.provider("idp", USER, GROUPS, authorization_ttl=30)
    federated.log_in("idp")

    def changes(**how: Any) -> bool:
        before = federated.cloud.db.read(version)
        federated.log_in("idp", **how)
        return federated.cloud.db.read(version) != before

    def ends() -> float:
        (row,) = federated.cloud.db.read(lambda tx: MEMBERSHIPS.all(tx, idp_id="idp"))
        return row.expires_at or 0.0

    first = ends()
    assert not changes(now=time.time() + 60) and ends() >= first + 59, "who stays, stays longer"
    assert changes(GROUPS=["dev", "ops"]) and changes(GROUPS=["ops"]) and not changes(GROUPS=["ops"])
    assert changes(GROUPS=["ops"], now=time.time() - 60), "what ends sooner than tokens know"
    assert changes(GROUPS=["ops"], now=time.time() + 3600), "what had ended begins anew"


def test_a_membership_that_an_administrator_gave_stays(federated: Federated) -> None:
    group = federated.group("dev")
    federated.provider("idp", USER, GROUPS)
    user = user_of(federated.log_in("idp"))["id"]
    assert federated.cloud("PUT", f"/groups/{group}/users/{user}").status == 204
    federated.log_in("idp", GROUPS=["unknown"])
    assert federated.cloud("GET", f"/groups/{group}/users/{user}").status == 204
