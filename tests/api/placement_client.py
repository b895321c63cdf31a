"""Placement's API as its administrator uses it, for several test files."""

from pathlib import Path
from typing import Any

from direct import Answer, Direct
from pileus.placement.facade import SERVICE

U1, U2, U3 = (f"0000000{i}-1111-4222-8333-444444444444" for i in (1, 2, 3))
NONE = "99999999-1111-4222-8333-444444444444"


class Placement:
    """The API as its administrator, at the newest version unless a call says otherwise."""

    def __init__(self, folder: Path):
        self.direct = Direct([SERVICE], folder)

    def __call__(self, method: str, path: str, body: Any = None, *, at: str = "1.39", caller: str = "admin") -> Answer:
        return self.direct(method, f"/placement{path}", body, caller=caller, version=f"placement {at}")

    def provider(self, uuid: str = U1, name: str = "", **more: Any) -> dict[str, Any]:
        answer = self("POST", "/resource_providers", {"uuid": uuid, "name": name or uuid[:8], **more})
        assert answer.status == 200, answer
        found: dict[str, Any] = answer.json
        return found

    def stock(self, uuid: str, generation: int = 0, **totals: int) -> Answer:
        body = {"resource_provider_generation": generation, "inventories": {n: {"total": t} for n, t in totals.items()}}
        return self("PUT", f"/resource_providers/{uuid}/inventories", body)


def code(answer: Answer) -> str:
    found: str = answer.json["errors"][0]["code"]
    return found
