"""pileus verify: records against reality; prints nothing and exits 0 when all is well."""

from pileus.core.config import Config


def verify(config: Config, _arguments: list[str]) -> int:
    """Print every difference found, one a line."""
    from pileus.roles.verification import differences

    found = differences(config)
    for line in found:
        print(line)
    return int(bool(found))
