"""The API, the page and uvicorn in one process."""

import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from ..modeling_lmmvqa import VideoQualityAssessmentPipeline
from .api import make_api
from .limits import ServerLimits
from .page import mount_page


# That running requests have, once the server was told to end
GRACE_SECONDS = 30
# Of an idle connection: longer than proxies and clients keep theirs, who would lose what they send just as it is closed
KEEP_ALIVE_SECONDS = 75
# Connections that wait to be accepted, beyond which the system refuses them
BACKLOG = 1024


def make_app(scorer: VideoQualityAssessmentPipeline, limits: ServerLimits, model: str = "default") -> FastAPI:
    """The whole server as an ASGI application, for other servers than uvicorn too; see `make_api`."""
    return mount_page(make_api(scorer, limits, model), limits)


def serve(app: FastAPI, host: str, port: int, say: Callable[[str], None]) -> None:
    """
    Runs until it is told to end (SIGINT, SIGTERM), and then answers what it has begun.

    Args:
        port: 0 takes a free one.
        say: called with a line that says where it listens.

    Raises:
        OSError: it cannot listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise OSError(
            f"got --host {host} --port {port}, expected an address of this machine where nothing listens: {error.strerror}; "
            "name another port"
        ) from error
    with listening:
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            backlog=BACKLOG,
        )
        name = f"[{host}]" if ":" in host else host
        say(f"serving at http://{name}:{listening.getsockname()[1]}, until Ctrl-C")
        uvicorn.Server(config).run(sockets=[listening])
