"""python -m benchmarks.policy: what one check of a rule costs, over all rules of all services."""

import timeit

from pileus.core.policy import Enforcer
from pileus.roles.controller import services

CREDS = {
    "user_id": "u", "project_id": "p", "domain_id": None, "system_scope": None, "roles": ["member", "reader"],
    "is_admin_project": True, "user_domain_id": "default", "project_domain_id": "default",
}  # fmt: skip
TARGET = {"user_id": "u", "project_id": "p", "tenant_id": "p"}


def main() -> None:
    enforcer = Enforcer()
    names = []
    for service in services():
        for name, text in service.rules.items():
            enforcer.declare(name, text, service.type)
            names.append(name)

    def check_all() -> None:
        for name in names:
            enforcer.passes(name, CREDS, TARGET)

    best = min(timeit.repeat(check_all, number=100, repeat=5)) / 100 / len(names)
    print(f"one check of policy: {best * 1e6:.1f} µs, the mean over {len(names)} rules, best of 5 runs of 100")


if __name__ == "__main__":
    main()
