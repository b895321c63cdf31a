"""Names of traits and resource classes: the standard ones of OpenStack, and CUSTOM_ ones that operators add.

Source: Placement API reference, "Traits" and "Resource classes"; the packages os-traits and os-resource-classes.
"""

import functools
import re
from collections.abc import Iterable

from pileus.core.errors import BadRequest
from pileus.db.connect import Tx

CUSTOM = "^CUSTOM_[A-Z0-9_]+$"
_CUSTOM = re.compile(r"CUSTOM_[A-Z0-9_]+")


@functools.cache
def standard_traits() -> frozenset[str]:
    """All names that os-traits knows."""
    import os_traits  # type: ignore[import-untyped]  # 30 ms, needed by few requests

    return frozenset(os_traits.get_traits())


@functools.cache
def standard_classes() -> tuple[str, ...]:
    """All names that os-resource-classes knows, in its order."""
    import os_resource_classes  # type: ignore[import-untyped]  # it has no types

    return tuple(os_resource_classes.STANDARDS)


def is_custom(name: str) -> bool:
    """Whether this is a well-formed name of an operator's own."""
    return len(name) <= 255 and _CUSTOM.fullmatch(name) is not None


def check_traits(tx: Tx, wanted: Iterable[str], message: str) -> None:
    """Raise BadRequest naming the traits that do not exist."""
    unknown = sorted(set(wanted) - standard_traits() - _custom(tx, "custom_traits", wanted))
    if unknown:
        raise BadRequest(f"{message}{', '.join(name[:255] for name in unknown)}")


def check_classes(tx: Tx, wanted: Iterable[str], message: str) -> None:
    """Raise BadRequest naming the first resource class that does not exist."""
    unknown = sorted(set(wanted) - set(standard_classes()) - _custom(tx, "custom_resource_classes", wanted))
    if unknown:
        raise BadRequest(f"{message}No such resource class {unknown[0][:255]}.")


def _custom(tx: Tx, table: str, wanted: Iterable[str]) -> set[str]:
    """Those of the names that operators added."""
    asked = sorted({name for name in wanted if is_custom(name)})
    if not asked:
        return set()
    marks = ", ".join("?" * len(asked))
    return {row[0] for row in tx.all(f"select name from {table} where name in ({marks})", *asked)}
