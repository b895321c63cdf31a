"""Access rules: which requests a restricted token may make.

Source: Identity API reference, "Application credentials", access rules.  In a path pattern `*` and
`{name}` stand for one segment or a part of one, `**` for any number of segments.
"""

import functools
import re

AccessRule = tuple[str, str, str]  # service type, method, path pattern


@functools.lru_cache(maxsize=1024)
def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*|\*|\{[^/{}]*\})", path)
    meanings = (".*" if p == "**" else "[^/]+" if p == "*" or p.startswith("{") else re.escape(p) for p in parts)
    return re.compile("".join(meanings))


def permits(rules: tuple[AccessRule, ...], service_type: str, method: str, path: str) -> bool:
    """Whether one of the rules covers a request."""
    return any(
        service == service_type and allowed == method and _pattern(pattern).fullmatch(path)
        for service, allowed, pattern in rules
    )
