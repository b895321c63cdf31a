"""A client that is there for the bad days: it tells apart refused, not done, and answer lost, and asks again."""

import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

COMPUTE, NETWORK, VOLUME, IMAGE = "/compute/v2.1", "/networking/v2.0", "/volume/v3", "/image/v2"
ANSWER_SECONDS = 60.0  # longer than anything is stopped for
PATIENCE = 120.0


class Lost(Exception):
    """The connection ended before the answer: done or not, nobody knows."""


class Answer:
    """Status, headers and body of one answer."""

    def __init__(self, status: int, headers: Mapping[str, str], raw: bytes):
        self.status, self.headers, self.raw = status, headers, raw

    @property
    def json(self) -> Any:
        return json.loads(self.raw) if self.raw else None

    def __repr__(self) -> str:
        return f"<{self.status} {self.raw[:600]!r}>"


def patience(seconds: float = PATIENCE, pause: float = 0.1) -> Iterator[None]:
    """Once for each try, for so long."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        yield
        time.sleep(pause)


class Client:
    """The administrator in the project admin.  `defects` is every answer that no client should ever see."""

    def __init__(self, port: int, password: str):
        self.port, self.token = port, ""
        self.defects: list[str] = []
        self.refusals = 0  # 503: not done, try again
        domain = {"id": "default"}
        who = {"name": "admin", "domain": domain, "password": password}
        scope = {"project": {"name": "admin", "domain": domain}}
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": who}}, "scope": scope}}
        self.login = body
        answer = self.ask("POST", "/identity/v3/auth/tokens", body)
        assert answer.status == 201, answer
        self.token = answer.headers["x-subject-token"]
        self.project = answer.json["token"]["project"]["id"]

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request on a connection of its own; raises Lost."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        head = {"x-auth-token": self.token, "content-type": "application/json"}
        head.update({name.replace("_", "-"): value for name, value in headers.items()})
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        try:
            connection.request(method, path, data, head)
            got = connection.getresponse()
            answer = Answer(got.status, {k.lower(): v for k, v in got.getheaders()}, got.read())
        except TimeoutError:
            self.defects.append(f"{method} {path}: no answer in {ANSWER_SECONDS} s")
            raise Lost(f"{method} {path}") from None
        except (OSError, http.client.HTTPException) as error:
            raise Lost(f"{method} {path}: {error}") from None
        finally:
            connection.close()
        if answer.status >= 500 and answer.status != 503:
            self.defects.append(f"{method} {path}: {answer}")
        if answer.status == 503:
            self.refusals += 1
        return answer

    def get(self, path: str) -> Any:
        """What is there now, however often one must ask; None when it is not there."""
        for _ in patience():
            try:
                answer = self.ask("GET", path)
            except Lost:
                continue
            if answer.status in (200, 404):
                return answer.json if answer.status == 200 else None
            assert answer.status >= 500, f"GET {path}: {answer}"
        raise AssertionError(f"GET {path}: no answer in {PATIENCE} s")

    def insist(self, method: str, path: str, body: Any = None, *, took: Callable[[], Any] = lambda: None) -> Any:
        """Ask until it is acknowledged, or until `took` finds that a request with a lost answer had been accepted.

        The decoded answer, or what `took` found.  Raises AssertionError for a refusal.
        """
        for _ in patience():
            try:
                answer = self.ask(method, path, body)
            except Lost:
                if found := took():
                    return found
                continue
            if answer.status < 300:
                return answer.json or answer
            if answer.status < 500:
                raise AssertionError(f"{method} {path}: {answer}")
        raise AssertionError(f"{method} {path}: not accepted in {PATIENCE} s")

    def delete(self, path: str) -> None:
        """Ask until it is accepted; what is gone already had been."""
        for _ in patience():
            try:
                answer = self.ask("DELETE", path)
            except Lost:
                continue
            if answer.status < 300 or answer.status == 404:
                return
            assert answer.status >= 500 or answer.status == 409, f"DELETE {path}: {answer}"  # 409: still in use
        raise AssertionError(f"DELETE {path}: {answer}")

    def create(self, path: str, name: str, body: Mapping[str, Any], key: str = "", **query: str) -> Any:
        """A new thing of this name, once and only once; `path` is where it is listed too."""
        plural = path.rpartition("/")[2]

        def named() -> Any:
            found = [one for one in self.get(f"{path}?name={name}")[plural] if one["name"] == name]
            assert len(found) <= 1, f"asked once, done {len(found)} times: {found}"
            return {key: found[0]} if found and key else found[0] if found else None

        wanted = {**body, "name": name}
        made = self.insist("POST", path, {key: wanted} if key else wanted, took=named)
        return made[key] if key else made

    def until(self, what: str, look: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        """The first true answer of `look`; raises AssertionError when that takes too long."""
        for _ in patience(seconds):
            if found := look():
                return found
        raise AssertionError(f"{what}: not within {seconds} s")
