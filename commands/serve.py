"""`lmmvqa serve`: a page and an HTTP API that score what is uploaded."""

from dataclasses import dataclass, fields
from importlib.util import find_spec

from ..scoring.options import option
from .model_options import ModelOptions, load
from .options import port
from .output import warn


HELP = "a page and an HTTP API that score uploads"
DESCRIPTION = (
    "Serves a page at / and an API at /v1/score, with /health and /metrics for whoever watches it. Uploads are scored one "
    "batch after another and are never stored under a name. Ctrl-C ends it once running requests are answered."
)
LIBRARIES = ("fastapi", "gradio", "prometheus_client", "uvicorn")


def limit(what: str, default: float):
    return option(f"{what} (default: {default:g})", default=default, metavar="NUMBER", group="limits")


@dataclass(kw_only=True)
class Options(ModelOptions):
    host: str = option("address to listen at; 0.0.0.0 is all (default: 127.0.0.1)", default="127.0.0.1")
    port: int = option("default: 7860; 0: any that is free", default=7860, type=port)
    # The attributes of `ServerLimits`
    max_bytes: float = limit("of an upload", 200e6)
    max_upload_seconds: float = limit("that an upload, or what an address gives, may take", 120)
    max_requests: int = limit("videos that are uploaded, wait or are scored at one time; one more gets 503", 32)
    max_batch: int = limit("videos that are scored together", 4)
    max_seconds: float = limit("of a video", 60)
    max_pixels: float = limit("of a frame", 34e6)
    max_wall_seconds: float = limit("that reading and encoding a video may take", 120)
    allow_urls: list[str] = option(
        "read addresses of these stores, such as https://media.example.org or s3://bucket (default: none)",
        default=[],
        metavar="STORE",
        group="limits",
    )


def run(options: Options) -> int:
    if missing := [name for name in LIBRARIES if find_spec(name) is None]:
        raise ValueError(
            f"got `lmmvqa serve` without {', '.join(missing)}, expected them to be installed; pip install 'lmmvqa[serve]'"
        )
    from ..serving.limits import ServerLimits

    given = {name.name: getattr(options, name.name) for name in fields(ServerLimits)}
    limits = ServerLimits(**given | {"allow_urls": tuple(options.allow_urls)})
    scorer, _ = load(options)
    from ..serving.server import make_app, serve

    serve(make_app(scorer, limits, options.model or "default"), options.host, options.port, warn)
    return 0
