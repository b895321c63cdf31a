"""The stored options of domains, each sealed."""

from msgspec import Struct

from pileus.identity.watched import Watched


class DomainOption(Struct, frozen=True, kw_only=True):
    """One option of one domain."""

    domain_id: str
    group_name: str
    option_name: str
    sealed_value: str


DOMAIN_OPTIONS = Watched(DomainOption, "domain_options", ("domain_id", "group_name", "option_name"))
