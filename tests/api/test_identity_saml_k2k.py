"""One cloud takes another one's word on its users: keystoneauth's K2K plugin, from Pileus to Pileus."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from keystoneauth1.exceptions import AuthorizationFailure, ClientException
from keystoneauth1.identity.v3 import ApplicationCredential, Keystone2Keystone
from keystoneauth1.session import Session
from lxml import etree

from direct import Answer
from identity_cloud import IdentityCloud
from pileus.core.clock import parse_iso
from pileus.core.config import Saml
from pileus.http.app import App
from pileus.identity.federation.saml_keys import rotate_signing_key
from pileus.identity.standing import standing
from pileus.identity.tokens import tokens_of
from saml_cloud import FEDERATION, SamlCloud

ECP = "{urn:oasis:names:tc:SAML:2.0:profiles:SSO:ecp}"
SAML = "{urn:oasis:names:tc:SAML:2.0:assertion}"
# What another cloud says of its users: their names, with the groups that they are in there.
FROM_CLOUD = [{
    "remote": [{"type": "openstack_user"}, {"type": "openstack_project", "any_one_of": ["blue"]}],
    "local": [{"user": {"name": "{0}"}}, {"group": {"name": "guests", "domain": {"id": "default"}}}],
}]  # fmt: skip


class Clouds:
    """`home`, whose users go to `away`."""

    def __init__(self, home: SamlCloud, away: SamlCloud):
        self.home, self.away = home, away
        self.ann = self.home.identity.person(
            "ann", project=self.home.identity.make("/projects", "project", name="blue")["id"]
        )
        self.home.gives_word_to("away", self.away, "home")
        self.away.takes_word_of("home", self.home.metadata(), unsolicited=True)
        self.group = self.away.identity.make("/groups", "group", name="guests")["id"]
        self.project = self.away.identity.make("/projects", "project", name="visits")["id"]
        self.away.identity.grant(f"/projects/{self.project}", f"/groups/{self.group}", "member")
        self.away.trusts("home", FROM_CLOUD)

    def ask(self, token: str, sp: str = "away", form: str = "/ecp") -> Answer:
        """Ask home for an assertion."""
        auth = {"identity": {"methods": ["token"], "token": {"id": token}}, "scope": {"service_provider": {"id": sp}}}
        return self.home.identity("POST", f"/auth{FEDERATION}/saml2{form}", {"auth": auth}, token="")

    def ann_token(self) -> str:
        return self.home.identity.token("ann", "secret", project="blue")

    def visit(self, session: Session, **scope: Any) -> Keystone2Keystone:
        assert session.auth is not None
        return Keystone2Keystone(session.auth, "away", **scope)  # type: ignore[arg-type]  # given by name, so that a test says only what matters to it


@pytest.fixture
def clouds(tmp_path: Path, identity_cloud: Callable[[Path], IdentityCloud], serve: Callable[[App], str]) -> Clouds:
    home, away = (SamlCloud(identity_cloud(tmp_path / name), serve) for name in ("home", "away"))
    return Clouds(home, away)


def test_keystoneauth_goes_from_one_cloud_to_another(clouds: Clouds) -> None:
    ann = clouds.home.session("ann", "secret", "blue")
    access = clouds.visit(ann, project_id=clouds.project).get_access(Session())
    assert access.username == "ann" and access.project_name == "visits" and access.role_names
    assert access.user_id != clouds.ann["id"], "a user of the other cloud"
    assert access.user_domain_id != "default"
    seen = Session().get(
        f"{clouds.away.v3}/auth/projects", headers={"x-auth-token": access.auth_token}, authenticated=False
    )
    assert [p["id"] for p in seen.json()["projects"]] == [clouds.project]
    again = clouds.visit(ann, project_id=clouds.project).get_access(Session())
    assert again.user_id == access.user_id, "the same user at every visit"


def test_tokens_name_the_clouds_to_go_to(clouds: Clouds) -> None:
    place = clouds.away.place("home")
    expected = [{"id": "away", "sp_url": place, "auth_url": place.removesuffix("saml2") + "auth"}]
    identity = clouds.home.identity
    token = clouds.ann_token()
    shown = identity("GET", "/auth/tokens", headers={"x-subject-token": token}).json["token"]
    assert shown["service_providers"] == expected
    identity("PATCH", f"{FEDERATION}/service_providers/away", {"service_provider": {"enabled": False}})
    shown = identity("GET", "/auth/tokens", headers={"x-subject-token": token}).json["token"]
    assert "service_providers" not in shown


def test_what_a_cloud_says_of_its_users(clouds: Clouds) -> None:
    home = clouds.home.identity
    group = home.make("/groups", "group", name="painters")["id"]
    assert home("PUT", f"/groups/{group}/users/{clouds.ann['id']}").status == 204
    answer = clouds.ask(clouds.ann_token(), form="")
    assert answer.status == 200 and answer.headers["content-type"] == "text/xml"
    place = clouds.away.place("home")
    assert answer.headers["x-sp-url"] == place and answer.headers["x-auth-url"] == place.removesuffix("saml2") + "auth"
    response = etree.fromstring(answer.raw)
    said = {a.get("Name"): [v.text for v in a.iter(SAML + "AttributeValue")] for a in response.iter(SAML + "Attribute")}
    assert said == {
        "openstack_user": ["ann"], "openstack_user_domain": ["Default"], "openstack_roles": ["member", "reader"],
        "openstack_project": ["blue"], "openstack_project_domain": ["Default"],
        "openstack_groups": ["JSON:" + json.dumps({"name": "painters", "domain": {"name": "Default"}})],
    }  # fmt: skip
    assert [a.text for a in response.iter(SAML + "Audience")] == [place]
    assert response.get("Destination") == place
    assert [i.text for i in response.iter(SAML + "Issuer")] == [f"{clouds.home.v3}{FEDERATION}/saml2/idp"] * 2
    assert b"SecretKey" not in answer.raw and b"PRIVATE" not in clouds.home.metadata()


def test_who_gets_no_assertion(clouds: Clouds) -> None:
    home = clouds.home.identity
    token = clouds.ann_token()
    assert clouds.ask("x" * 32).status == 401
    assert clouds.ask(home.token("ann", "secret")).status == 403, "no project"
    assert clouds.ask(token, "unknown").status == 404
    body = {"application_credential": {"name": "robot"}}
    made = home("POST", f"/users/{clouds.ann['id']}/application_credentials", body, token=token).json
    robot = made["application_credential"]
    log_in = home.log_in({"application_credential": {"id": robot["id"], "secret": robot["secret"]}})
    assert clouds.ask(log_in.headers["x-subject-token"]).status == 403, "what was delegated stays in its cloud"
    home("PATCH", f"{FEDERATION}/service_providers/away", {"service_provider": {"enabled": False}})
    assert clouds.ask(token).status == 403
    for wrong in ({}, {"auth": {"identity": {"methods": ["password"]}}}, {"auth": {"identity": {}, "scope": {}}}):
        assert home("POST", f"/auth{FEDERATION}/saml2", wrong, token="").status == 400


def test_a_token_that_a_certificate_binds_is_not_set_free(clouds: Clouds) -> None:
    identity, ann = clouds.home.identity, clouds.ann

    def bound(tx: Any) -> str:
        now = time.time()
        who = standing(tx, ann["id"], "project", ann["project_id"], now=now)
        issue = tokens_of(identity.settings.keys_folder).issue
        return issue(who, methods=("external",), now=now, certificate="ab" * 32)[0]

    answer = clouds.ask(identity.db.transact(bound))
    assert answer.status == 403 and "certificate" in answer.json["error"]["message"], answer


def test_a_name_that_xml_cannot_carry_is_said_to_be_one(clouds: Clouds) -> None:
    clouds.home.identity.person("odd\ufffe", password="secret")
    answer = clouds.ask(clouds.home.identity.token("odd\ufffe", "secret", project="odd\ufffe"))
    assert answer.status == 400 and "openstack_user" in answer.json["error"]["message"], answer
    clouds.home.identity.person("<b>&", password="secret")
    raw = clouds.ask(clouds.home.identity.token("<b>&", "secret", project="<b>&")).raw
    assert next(etree.fromstring(raw).iter(SAML + "NameID")).text == "<b>&"


def test_what_the_operator_may_choose_of_assertions(clouds: Clouds) -> None:
    saml = Saml(audiences={"away": "https://away/shibboleth"}, entity_id="https://home/idp", assertion_seconds=60.0)
    clouds.home.settings(saml)
    clouds.home.identity(
        "PATCH", f"{FEDERATION}/service_providers/away", {"service_provider": {"relay_state_prefix": "mine:"}}
    )
    said = etree.fromstring(clouds.ask(clouds.ann_token()).raw)
    assert next(said.iter(ECP + "RelayState")).text.startswith("mine:")
    assert [a.text for a in said.iter(SAML + "Audience")] == ["https://away/shibboleth"]
    assert {i.text for i in said.iter(SAML + "Issuer")} == {"https://home/idp"}
    (conditions,) = said.iter(SAML + "Conditions")
    assert parse_iso(conditions.get("NotOnOrAfter")) - parse_iso(conditions.get("NotBefore")) == 60
    assert b'entityID="https://home/idp"' in clouds.home.metadata()


def test_an_assertion_is_taken_once_and_only_where_it_is_meant_for(clouds: Clouds) -> None:
    envelope = clouds.ask(clouds.ann_token()).raw
    clouds.away.put(clouds.away.protocol("home", "mapped"), "protocol", mapping_id="home")
    assert bring(clouds.away.place("home", "mapped"), envelope) == 401, "another protocol's place"
    assert bring(clouds.away.place("home"), envelope) == 201
    assert bring(clouds.away.place("home"), envelope) == 401
    assert bring(clouds.away.place("nobody"), envelope) == 404


def test_another_project_there_is_nobody_here(clouds: Clouds) -> None:
    other = clouds.home.identity.person("eve")
    assert other["project_id"]
    with pytest.raises((AuthorizationFailure, ClientException)):
        clouds.visit(clouds.home.session("eve", "secret", "eve")).get_access(Session())


def test_delegated_tokens_do_not_travel_by_keystoneauth_either(clouds: Clouds) -> None:
    home = clouds.home.identity
    body = {"application_credential": {"name": "robot", "unrestricted": True}}
    made = home("POST", f"/users/{clouds.ann['id']}/application_credentials", body, token=clouds.ann_token()).json
    robot = made["application_credential"]
    auth = ApplicationCredential(
        clouds.home.v3, application_credential_id=robot["id"], application_credential_secret=robot["secret"]
    )
    with pytest.raises(AuthorizationFailure):
        clouds.visit(Session(auth=auth)).get_access(Session())


def test_who_did_not_say_so_may_not_speak_unasked(clouds: Clouds) -> None:
    clouds.away.takes_word_of("home", clouds.home.metadata(), unsolicited=False)
    assert bring(clouds.away.place("home"), clouds.ask(clouds.ann_token()).raw) == 401


def test_a_new_key_is_believed_by_who_read_the_metadata_before_it_was_used(clouds: Clouds) -> None:
    keys, place = clouds.home.identity.settings.keys_folder, clouds.away.place("home")
    rotate_signing_key(keys)
    both = clouds.home.metadata()
    assert bring(place, clouds.ask(clouds.ann_token()).raw) == 201, "the old key signs, and is known"
    rotate_signing_key(keys)
    signed_anew = clouds.ask(clouds.ann_token()).raw
    assert bring(place, signed_anew) == 401, "nobody told away of the new key"
    clouds.away.takes_word_of("home", both, unsolicited=True)
    assert bring(place, signed_anew) == 201


def bring(place: str, envelope: bytes) -> int:
    """The status with which a place answers to an envelope."""
    return requests.post(
        place, data=envelope, headers={"content-type": "application/vnd.paos+xml"}, timeout=20
    ).status_code
