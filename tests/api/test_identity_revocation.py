"""Attacks S16, S17: what a token rests on ends it within a second on every controller, and no restart forgets that.

One controller, in this process, is told what happens; the other is a process of its own on the same store that has
seen the token before.
"""

import base64
import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from msgspec import structs
from test_identity_chains import signed
from test_identity_trusts import Consumer

from identity_cloud import QUICK, IdentityCloud
from tls_proxy import HEADER, Certificate

RULES = structs.replace(QUICK, trusted_certificate_header=HEADER, trusted_proxies=("192.0.2.1", "127.0.0.1"))
NUMBERS = itertools.count()
HERE = Path(__file__).parent
PATHS = ":".join(str(HERE.parent / folder) for folder in ("", "api", "life"))


class Elsewhere:
    """Another controller: a process that can be killed and started again."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.start()

    def start(self) -> None:
        command = [sys.executable, str(HERE / "served_identity.py"), str(self.folder)]
        path = ":".join([PATHS, *sys.path])
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": path})
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def restart(self) -> None:
        self.process.kill()
        self.process.wait()
        self.start()

    def valid(self, token: str, certificate: str = "") -> bool:
        """Whether the token opens something there."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"x-auth-token": token, **({HEADER: quote(certificate)} if certificate else {})}
        connection.request("GET", "/identity/v3/auth/projects", headers=headers)
        status = connection.getresponse().status
        connection.close()
        assert status in (200, 401), status
        return status == 200

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityCloud]:
    made = IdentityCloud(tmp_path_factory.mktemp("revocation"), RULES)
    yield made
    made.close()


@pytest.fixture(scope="module")
def elsewhere(cloud: IdentityCloud) -> Iterator[Elsewhere]:
    made = Elsewhere(cloud.folder)
    yield made
    made.stop()


class Holder:
    """A user in a domain of its own, with a role on a project, and the tokens that they may hold."""

    def __init__(self, cloud: IdentityCloud, *, by_group: bool = False):
        self.cloud, name = cloud, f"n{next(NUMBERS)}"
        self.name, self.certificate = name, ""
        self.domain = cloud.make("/domains", "domain", name=name)["id"]
        self.project = cloud.make("/projects", "project", name=name, domain_id=self.domain)["id"]
        self.user = self._user(name, default_project_id=self.project)
        self.friend = self._user(f"{name}-friend")
        self.group = cloud.make("/groups", "group", name=name, domain_id=self.domain)["id"]
        self.role = cloud.make("/roles", "role", name=name)["id"]
        self.happens("PUT", f"/roles/{self.role}/implies/{cloud.role_id('member')}")
        who = f"/groups/{self.group}" if by_group else f"/users/{self.user}"
        for place in ("projects", "domains"):
            self.happens("PUT", f"/{place}/{getattr(self, place[:-1])}{who}/roles/{self.role}")
        self.happens("PUT", f"/groups/{self.group}/users/{self.user}")
        self.grant, self.who = f"/projects/{self.project}{who}/roles/{self.role}", who
        self.made: dict[str, str] = {}  # what a token rests on besides, by its kind

    def _user(self, name: str, **more: Any) -> str:
        fields = {"name": name, "password": "secret", "domain_id": self.domain, **more}
        return str(self.cloud.make("/users", "user", **fields)["id"])

    def happens(self, method: str, path: str, body: Any = None, token: str | None = None) -> Any:
        """A request that must succeed."""
        answer = self.cloud(method, path, body, token=token)
        assert answer.status < 300, (method, path, answer)
        return answer.json

    def log_in(self, scope: Any = None, user: str = "") -> str:
        wanted = {"project": {"id": self.project}} if scope is None else scope
        answer = self.cloud.log_in({"password": {"user": {"id": user or self.user, "password": "secret"}}}, wanted)
        assert answer.status == 201, answer
        return answer.headers["x-subject-token"]

    # the kinds of tokens

    def password(self) -> str:
        return self.log_in()

    def unscoped(self) -> str:
        return self.log_in("unscoped")

    def domain_scoped(self) -> str:
        return self.log_in({"domain": {"id": self.domain}})

    def system_scoped(self) -> str:
        self.happens("PUT", f"/system{self.who}/roles/{self.role}")
        return self.log_in({"system": {"all": True}})

    def rescoped(self) -> str:
        self.made["parent"] = self.log_in("unscoped")
        given = {"token": {"id": self.made["parent"]}}
        return self.cloud.log_in(given, {"project": {"id": self.project}}).headers["x-subject-token"]

    def _application_credential(self) -> dict[str, Any]:
        body, path = {"application_credential": {"name": "x"}}, f"/users/{self.user}/application_credentials"
        made: dict[str, Any] = self.happens("POST", path, body, self.log_in())["application_credential"]
        self.made["credential"] = f"{path}/{made['id']}"
        return made

    def application_credential(self) -> str:
        made = self._application_credential()
        given = {"application_credential": {"id": made["id"], "secret": made["secret"]}}
        return self.cloud.log_in(given).headers["x-subject-token"]

    def _form(self, form: str, **headers: str) -> str:
        head = {"content-type": "application/x-www-form-urlencoded", **headers}
        answer = self.cloud("POST", "/OS-OAUTH2/token", raw=form.encode(), token="", headers=head)
        return str(answer.json["access_token"])

    def oauth2(self) -> str:
        made = self._application_credential()
        basic = base64.b64encode(f"{made['id']}:{made['secret']}".encode()).decode()
        return self._form("grant_type=client_credentials", authorization=f"Basic {basic}")

    def by_certificate(self) -> str:
        self.certificate = Certificate(self.cloud.folder, self.name).pem
        body = {"credential": {"user_id": self.user, "type": "cert", "blob": self.certificate}}
        self.made["credential"] = f"/credentials/{self.happens('POST', '/credentials', body)['credential']['id']}"
        form = f"grant_type=client_credentials&client_id={self.user}"
        return self._form(form, **{HEADER: quote(self.certificate)})

    def key(self) -> str:
        path = f"/users/{self.user}/credentials/OS-EC2"
        made = self.happens("POST", path, {"tenant_id": self.project}, self.log_in())["credential"]
        self.made["credential"] = f"{path}/{made['access']}"
        service = self.cloud.person(f"{self.name}-swift", "service")["name"]
        asker = self.cloud.token(service, "secret", project=service)
        answer = self.cloud("POST", "/ec2tokens", {"credentials": signed(made["access"], made["secret"])}, token=asker)
        return answer.headers["x-subject-token"]

    def key_of_credential(self) -> str:
        """A key that an application credential made."""
        body = {"application_credential": {"name": "x", "unrestricted": True}}
        path = f"/users/{self.user}/application_credentials"
        made = self.happens("POST", path, body, self.log_in())["application_credential"]
        self.made["credential"] = f"{path}/{made['id']}"
        given = {"application_credential": {"id": made["id"], "secret": made["secret"]}}
        token = self.cloud.log_in(given).headers["x-subject-token"]
        path = f"/users/{self.user}/credentials/OS-EC2"
        key = self.happens("POST", path, {"tenant_id": self.project}, token)["credential"]
        service = self.cloud.person(f"{self.name}-swift", "service")["name"]
        asker = self.cloud.token(service, "secret", project=service)
        answer = self.cloud("POST", "/ec2tokens", {"credentials": signed(key["access"], key["secret"])}, token=asker)
        return answer.headers["x-subject-token"]

    def trust(self) -> str:
        wanted = {"trustor_user_id": self.user, "trustee_user_id": self.friend, "project_id": self.project,
                  "impersonation": True, "roles": [{"id": self.role}]}  # fmt: skip
        made = self.happens("POST", "/OS-TRUST/trusts", {"trust": wanted}, self.log_in())["trust"]
        self.made["credential"] = f"/OS-TRUST/trusts/{made['id']}"
        return self.log_in({"OS-TRUST:trust": {"id": made["id"]}}, self.friend)

    def oauth1(self) -> str:
        printer = Consumer(self.cloud)
        asked = printer.ask(self.project)
        path, roles = f"/OS-OAUTH1/authorize/{asked['oauth_token']}", {"roles": [{"id": self.role}]}
        verifier = self.happens("PUT", path, roles, self.log_in())["token"]["oauth_verifier"]
        got = printer.fetch(asked, verifier).raw.decode()
        access = dict(part.split("=") for part in got.split("&"))
        self.made["consumer"] = f"/OS-OAUTH1/consumers/{printer.id}"
        self.made["credential"] = f"/users/{self.user}/OS-OAUTH1/access_tokens/{access['oauth_token']}"
        return printer.log_in(access).headers["x-subject-token"]


Event = Callable[[Holder, str], Any]


def off(kind: str) -> Event:
    return lambda h, _token: h.happens("PATCH", f"/{kind}s/{getattr(h, kind)}", {kind: {"enabled": False}})


def gone(kind: str) -> Event:
    return lambda h, _token: h.happens("DELETE", f"/{kind}s/{getattr(h, kind)}")


def given_up(what: str) -> Event:
    """What the token rests on besides is deleted by its owner, or by the administrator."""
    return lambda h, _token: h.happens("DELETE", h.made[what], token=None if what == "consumer" else h.log_in())


def revoked(holder: Holder, token: str) -> None:
    answer = holder.cloud("DELETE", "/auth/tokens", headers={"x-subject-token": token})
    assert answer.status == 204, answer


def own_password(holder: Holder, _token: str) -> None:
    body = {"user": {"original_password": "secret", "password": "another"}}
    holder.happens("POST", f"/users/{holder.user}/password", body, "")


ALL = ("password", "rescoped", "application_credential", "oauth2", "key", "trust", "oauth1", "by_certificate")
EVENTS: dict[str, tuple[Event, tuple[str, ...]]] = {
    "user disabled": (off("user"), (*ALL, "unscoped", "domain_scoped", "system_scoped")),
    "user deleted": (gone("user"), (*ALL, "unscoped", "domain_scoped", "system_scoped")),
    "project disabled": (off("project"), ALL),
    "project deleted": (gone("project"), ALL),
    "domain disabled": (off("domain"), (*ALL, "unscoped", "domain_scoped", "system_scoped")),
    "domain disabled as a project": (
        lambda h, _t: h.happens("PATCH", f"/projects/{h.domain}", {"project": {"enabled": False}}), ALL),
    "role taken": (lambda h, _t: h.happens("DELETE", h.grant), ALL),
    "role taken on domain": (lambda h, _t: h.happens("DELETE", f"/domains/{h.domain}{h.who}/roles/{h.role}"),
                             ("domain_scoped",)),
    "role taken on system": (lambda h, _t: h.happens("DELETE", f"/system{h.who}/roles/{h.role}"), ("system_scoped",)),
    "role deleted": (gone("role"), (*ALL, "domain_scoped", "system_scoped")),
    "group left": (lambda h, _t: h.happens("DELETE", f"/groups/{h.group}/users/{h.user}"),
                   (*ALL, "domain_scoped", "system_scoped")),
    "group deleted": (gone("group"), ALL),
    "credential deleted": (given_up("credential"), ("application_credential", "oauth2", "key", "key_of_credential",
                                                    "trust", "oauth1", "by_certificate")),
    "consumer deleted": (given_up("consumer"), ("oauth1",)),
    "trustee disabled": (lambda h, _t: h.happens("PATCH", f"/users/{h.friend}", {"user": {"enabled": False}}),
                         ("trust",)),
    "own password changed": (own_password, (*ALL, "unscoped", "domain_scoped", "system_scoped")),
    "password reset": (lambda h, _t: h.happens("PATCH", f"/users/{h.user}", {"user": {"password": "another"}}),
                       (*ALL, "unscoped", "domain_scoped", "system_scoped")),
    "revoked": (revoked, (*ALL, "unscoped", "domain_scoped", "system_scoped")),
    "parent revoked": (lambda h, _t: revoked(h, h.made["parent"]), ("rescoped",)),
}  # fmt: skip
CASES = [(event, kind) for event, (_, kinds) in EVENTS.items() for kind in kinds]


def hold(cloud: IdentityCloud, event: str, kind: str) -> tuple[Holder, str]:
    """Somebody with a token of a kind."""
    holder = Holder(cloud, by_group=event.startswith("group"))
    return holder, str(getattr(holder, kind)())


@pytest.mark.parametrize(("event", "kind"), CASES, ids=lambda value: str(value).replace(" ", "-"))
def test_s16_a_token_ends_within_a_second_on_every_controller(
    cloud: IdentityCloud, elsewhere: Elsewhere, event: str, kind: str
) -> None:
    holder, token = hold(cloud, event, kind)
    assert elsewhere.valid(token, holder.certificate), "it is good, and remembered there"
    EVENTS[event][0](holder, token)
    began = time.monotonic()
    while elsewhere.valid(token, holder.certificate):
        assert time.monotonic() - began < 1.0, "it outlived what it rests on"
        time.sleep(0.01)


def test_s17_a_restart_forgets_no_end(cloud: IdentityCloud, elsewhere: Elsewhere) -> None:
    ended, good = [], []
    for event, (happen, kinds) in EVENTS.items():
        holder, token = hold(cloud, event, kinds[0])
        other, kept = hold(cloud, event, kinds[0])
        happen(holder, token)
        ended.append((token, holder.certificate, event))
        good.append((kept, other.certificate, event))
    elsewhere.restart()
    assert [event for token, pem, event in ended if elsewhere.valid(token, pem)] == []
    assert [event for token, pem, event in good if not elsewhere.valid(token, pem)] == [], "tokens outlive a restart"
