"""The options of a domain whose users and groups are in an LDAP directory.

Names and defaults: Identity administration guide, "Integrate Identity with LDAP".
"""

from collections.abc import Mapping
from itertools import accumulate
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

LONGEST_SECONDS = 30  # an answer is never waited for any longer, whatever is configured
DEEPEST = 32  # parentheses of a filter within each other
Count = Annotated[int, Meta(ge=0, le=100_000)]


class LdapOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The group `ldap` of a domain's configuration."""

    url: str = "ldap://localhost"  # several, with commas between: each is tried
    user: str | None = None  # the DN as which the cloud reads; None: it says no name
    password: str | None = None
    suffix: str = "cn=example,cn=com"
    query_scope: Literal["one", "sub"] = "one"
    page_size: Count = 0  # entries asked for at once; 0: all
    alias_dereferencing: Literal["default", "never", "searching", "always", "finding"] = "default"
    chase_referrals: bool | None = None
    use_tls: bool = False  # StartTLS, on ldap:// alone
    tls_cacertfile: str | None = None
    tls_cacertdir: str | None = None
    tls_req_cert: Literal["demand", "never", "allow"] = "demand"
    connection_timeout: Annotated[int, Meta(ge=-1, le=3600)] = 10  # seconds, also for each answer; -1: the longest
    pool_size: Annotated[int, Meta(ge=1, le=64)] = 10  # connections kept open by each process
    user_tree_dn: str | None = None
    user_filter: str | None = None
    user_objectclass: str = "inetOrgPerson"
    user_id_attribute: str = "cn"
    user_name_attribute: str = "sn"
    user_description_attribute: str = "description"
    user_mail_attribute: str = "mail"
    user_enabled_attribute: str = "enabled"
    user_enabled_invert: bool = False
    user_enabled_mask: Annotated[int, Meta(ge=0)] = 0  # the bit that is set in who is disabled; 0: it is no bit field
    user_enabled_default: str | int | bool = "True"
    user_enabled_emulation: bool = False  # enabled is who is a member of one group, and nobody else
    user_enabled_emulation_dn: str | None = None  # that group; None: cn=enabled_users of the users' tree
    user_enabled_emulation_use_group_config: bool = False  # its members are named as those of groups are
    group_tree_dn: str | None = None
    group_filter: str | None = None
    group_objectclass: str = "groupOfNames"
    group_id_attribute: str = "cn"
    group_name_attribute: str = "ou"
    group_member_attribute: str = "member"
    group_members_are_ids: bool = False
    group_desc_attribute: str = "description"
    # Of upstream's own connections and writes: taken, shown, and without a meaning here.
    debug_level: int | None = None
    use_pool: bool = True
    pool_retry_max: Count = 3
    pool_retry_delay: Annotated[float, Meta(ge=0)] = 0.1
    pool_connection_timeout: int = -1
    pool_connection_lifetime: Count = 600
    use_auth_pool: bool = True
    auth_pool_size: Count = 100
    auth_pool_connection_lifetime: Count = 60
    user_pass_attribute: str = "userPassword"  # noqa: S105 (a name of an attribute)
    user_attribute_ignore: str | None = None
    group_attribute_ignore: str | None = None

    def __repr__(self) -> str:
        return f"<LdapOptions {self.url} ***>"

    @property
    def seconds(self) -> int:
        """How long to wait for a connection, and for each answer."""
        wanted = self.connection_timeout
        return min(wanted, LONGEST_SECONDS) if wanted > 0 else LONGEST_SECONDS


def read_options(given: Mapping[str, Any]) -> LdapOptions:
    """The options, with defaults for those not given; raises ValueError naming one that is wrong.

    Numbers and booleans may also be written as text, as in configuration files.
    """
    set_ones = {name: value for name, value in given.items() if value is not None or name in OPTIONAL}
    try:
        found = msgspec.convert(set_ones, LdapOptions, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(str(error).replace("`$.", "`")) from None
    for name in ("user_filter", "group_filter"):
        check_filter(name, getattr(found, name))
    for name in ATTRIBUTES:
        check_attribute(name, getattr(found, name))
    return found


OPTIONAL = frozenset(f for f, t in LdapOptions.__annotations__.items() if "None" in str(t))
ATTRIBUTES = tuple(f for f in LdapOptions.__struct_fields__ if f.endswith(("_attribute", "_objectclass")))


def check_attribute(name: str, value: str) -> None:
    """Refuse what is no name of an attribute or class (RFC 4512 §1.4): it is written into filters as it is."""
    if not value or not value.isascii() or not all(c.isalnum() or c in "-.;_" for c in value):
        raise ValueError(f"{name}: {value[:64]!r} is no name of an attribute or class")


def check_filter(name: str, value: str | None) -> None:
    """Refuse what is not one filter (RFC 4515): more than one would change the meaning of what stands beside it."""
    if not value:
        return
    from ldap3.core.exceptions import LDAPExceptionError
    from ldap3.operation.search import parse_filter

    depths = list(accumulate({"(": 1, ")": -1}.get(c, 0) for c in value))
    one = value[0] == "(" and depths[-1] == 0 and min(depths[:-1]) > 0 and max(depths) <= DEEPEST
    try:
        if not one:
            raise LDAPExceptionError("it must be in one pair of parentheses")
        parse_filter(value, None, False, False, None, False)
    except (LDAPExceptionError, AttributeError, IndexError) as error:  # the parser trips over some wrong ones
        raise ValueError(f"{name}: it is no LDAP filter: {error}") from None
