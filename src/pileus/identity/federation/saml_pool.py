"""Where SAML is worked on: two threads beside the event loop, and a bound on what waits for them.

XML signatures are made and checked by xmlsec1, a process; pysaml2 around it takes half a second and 50 MB to load.
Both come with the first SAML request of a process, and not before.
"""

import asyncio
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pileus.core.errors import ServiceUnavailable

T = TypeVar("T")
THREADS = 2
WAITING_MOST = 64


class Pool:
    """The threads of one process."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "saml")
        self._waiting = 0

    async def __call__(self, work: Callable[[], T]) -> T:
        """What `work` gives; raises ServiceUnavailable when too many wait already."""
        if self._waiting >= WAITING_MOST:
            raise ServiceUnavailable("Too many SAML messages are being worked on.", headers={"retry-after": "1"})
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1


@functools.lru_cache(maxsize=1)
def _of_process(_pid: int) -> Pool:
    return Pool()


async def beside(work: Callable[[], T]) -> T:
    """Run this beside the event loop."""
    return await _of_process(os.getpid())(work)
