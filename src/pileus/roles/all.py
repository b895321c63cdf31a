"""The embedded cloud: API, worker and agent of one machine under one supervisor."""

import gc
import logging
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress

from pileus.core import log as logs
from pileus.core.config import Config, host_and_port
from pileus.http.server import allow_many_files, listen
from pileus.node.agent import listen_unix
from pileus.roles import controller, joining, node
from pileus.roles.supervisor import Role, Supervisor

log = logging.getLogger("pileus.all")


def public_sockets(config: Config) -> list[socket.socket]:
    """The API's sockets: on this machine, and the same address inside the cloud's own namespace.

    So that what runs beside the guests' public network (`pileus shell`) reaches the same URL.
    """
    sockets = [listen(config.listen, config.port)]
    if config.switch == "linux" and config.roles:
        from pileus.drivers.switch.linux import namespaces

        try:
            sockets.append(namespaces.inside(config.namespace, lambda: listen(config.listen, config.port)))
        except OSError as error:
            log.warning("the API is not reachable from the namespace %s: %s", config.namespace, error)
    return sockets


def preload() -> None:
    """Import what children would otherwise import one by one, after they gave up their rights."""
    import fastjsonschema
    import httptools
    import uvicorn.lifespan.on
    import uvicorn.loops.uvloop
    import uvicorn.protocols.websockets.websockets_sansio_impl
    import uvloop

    from pileus.roles import node_door, pages

    assert all((fastjsonschema, httptools, uvicorn, uvloop, node_door, pages))
    controller.services()
    gc.collect()
    gc.freeze()  # pages of what is loaded stay shared between the processes


def run(config: Config, admin_password: str) -> None:
    """Run what this machine is, a whole cloud or a node of another, until a signal ends it."""
    for name in ("logs", "run"):
        (config.folder / name).mkdir(parents=True, exist_ok=True)
    logs.set_up("supervisor", config.folder / "logs" / "pileus.log", config.log_level)
    supervisor = Supervisor(config.folder / "run")
    allow_many_files()
    member = joining.membership(config)
    roles = []
    if config.roles:
        node.prepare(config)
        roles.append(Role("agent", lambda: node.run_agent(config, member)))
    if member is None:
        roles += controllers(config, admin_password)
    supervisor.run([Role(role.name, logged(role), role.uid) for role in roles])


def controllers(config: Config, admin_password: str) -> list[Role]:
    """API and worker, with their sockets open and their database ready."""
    preload()
    controller.prepare(config, admin_password, config.service_uid)
    sockets = public_sockets(config)
    door = listen_unix(config.controller_socket, config.service_uid)
    far_door = None
    if config.controller_address:
        far_door = listen(*host_and_port(config.controller_address))
    uid = config.service_uid if os.geteuid() == 0 else 0
    return [
        Role("api", lambda: controller.run_api(config, sockets, door, far_door), uid),
        Role("worker", lambda: controller.run_worker(config), uid),
    ]


def logged(role: Role) -> Callable[[], None]:
    """The role's work, with its name in its log lines."""

    def start() -> None:
        for handler in logging.getLogger().handlers:
            handler.setFormatter(logs.JsonLines(role.name))
        role.run()

    return start


def start_in_background(config: Config, admin_password: str) -> int:
    """Start the supervisor detached from this terminal; its process id."""
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        os.waitpid(pid, 0)
        with os.fdopen(read) as answer:
            return int(answer.read() or 0)
    os.setsid()
    child = os.fork()
    if child:
        os.write(write, str(child).encode())
        os._exit(0)
    os.close(read)
    os.close(write)
    code = 1
    try:
        os.chdir("/")
        quiet = os.open(os.devnull, os.O_RDWR)
        (config.folder / "logs").mkdir(parents=True, exist_ok=True)
        crash = os.open(config.folder / "logs" / "crash.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        for target, source in ((0, quiet), (1, crash), (2, crash)):
            os.dup2(source, target)
        run(config, admin_password)
        code = 0
    except BaseException:
        logging.getLogger("pileus").exception("the supervisor ended")
        with suppress(Exception):
            sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)
