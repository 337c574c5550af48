"""The HTTP API: a video in the body of a request, its row as JSON in the answer."""

import asyncio
import contextlib
import math
import tempfile
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import ExitStack, asynccontextmanager
from importlib.metadata import version
from typing import BinaryIO

from fastapi import FastAPI, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.endpoints import HTTPEndpoint
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from ..modeling_lmmvqa import VideoQualityAssessmentPipeline
from ..scoring.addresses import downloaded, is_address, write_whole_block
from ..scoring.report import utf8
from .batching import Batcher
from .limits import ServerLimits, store_of
from .metrics import Metrics
from .result_html import result_html
from .samples import SAMPLES, render_sample


DESCRIPTION = """
Perceived quality of a video, from 0 to 100. Send the file itself as the body of a request:

`curl --data-binary @clip.mp4 http://127.0.0.1:7860/v1/score`

Every answer but a score is an object with `error`, one sentence that says why.
"""
UPLOAD = {
    "requestBody": {
        "description": "the bytes of a video or picture; none where `url` is given",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
# How paths begin that are not the page's
API_PATHS = ("/v1/", "/health", "/metrics", "/openapi.json")
SLOW = 408
# What `/v1/score` answers beside a score: the outcome that /metrics counts, and why
REFUSALS = {
    400: ("wrong_use", "no bytes came, or parameters that are none"),
    403: ("forbidden", "an address, and the server does not allow its store"),
    SLOW: ("slow", "the upload, or what the address gives, took longer than `max_upload_seconds`"),
    413: ("too_large", "more than `max_bytes`"),
    415: ("form", "a form; send the bytes of the file alone"),
    422: ("unreadable", "not a video, too long, too many pixels, or broken: a row whose `error` says which"),
    502: ("address", "the address gives no file"),
    503: ("busy", "as many videos as the server takes; come back after `Retry-After` seconds"),
    507: ("disk", "no space for the upload, or for what the address gives"),
}
# That a client which is refused may go on sending before it is cut off
DROP_SECONDS = 10
GONE = 499  # what nginx logs for a client that went away; nobody reads it


class Refusal(Exception):
    """Why a request gets no score: a status of `REFUSALS`, one sentence and headers."""

    def __init__(self, status: int, error: str, **headers: str):
        super().__init__(error)
        self.status, self.headers = status, headers


async def _drop_body(request: Request) -> None:
    """Reads what is left of a body, for a while: the connection of a client that still sends may break before its answer."""
    if "expect" in request.headers:  # it sends nothing before it is told to
        return
    with contextlib.suppress(TimeoutError, RuntimeError):  # what Starlette raises where nothing is left
        async with asyncio.timeout(DROP_SECONDS):
            async for _ in request.stream():
                pass


class Scores:
    """
    Requests to rows: takes no more than the limits say, and leaves nothing behind.

    An upload is a file without a name (`tempfile.TemporaryFile`), so that it is gone whenever the process ends; it is closed
    as soon as it is scored, refused, or its client goes away.
    """

    def __init__(self, scorer: VideoQualityAssessmentPipeline, limits: ServerLimits):
        self.limits, self.metrics = limits, Metrics()
        self.batcher = Batcher(scorer, limits.max_batch, self.metrics.batch_videos.observe)
        self._places = threading.BoundedSemaphore(limits.max_requests)

    async def row(self, request: Request, name: str, url: str | None, problems: bool) -> dict:
        """
        The row of what a request holds.

        Raises:
            Refusal: too much, too slow, or no place.
            ClientDisconnect: nobody waits for it any more.
        """
        with ExitStack() as kept:
            try:
                self._take_place(kept)
                if url is None:
                    file = kept.enter_context(tempfile.TemporaryFile(buffering=0))
                    file.name = name
                    await self._receive(request, file)
                else:
                    file = await self._download(kept, url)
            except Refusal as refusal:
                kept.close()
                if refusal.status != SLOW:
                    await _drop_body(request)
                raise
            future = self.batcher.submit(file, problems)
            # The place and the file are the video's until it is scored, even where nobody waits any more
            of_video = kept.pop_all()
            future.add_done_callback(lambda _: of_video.close())
        return await _unless_gone(request, future)

    def _take_place(self, kept: ExitStack) -> None:
        if not self._places.acquire(blocking=False):
            # About when half of those before it are done
            seconds = math.ceil(self.batcher.seconds_per_video * self.limits.max_requests / 2) or 1
            raise Refusal(
                503,
                f"got more than {self.limits.max_requests} videos at a time, expected no more; try again in {seconds} s",
                **{"Retry-After": str(seconds)},
            )
        kept.callback(self._places.release)
        self.metrics.in_flight.inc()
        kept.callback(self.metrics.in_flight.dec)

    async def _receive(self, request: Request, file: BinaryIO) -> None:
        if request.headers.get("content-type", "").startswith("multipart/"):
            raise Refusal(415, "got a form, expected the bytes of the file alone; curl --data-binary @clip.mp4")
        most = self.limits.max_bytes
        too_large = Refusal(413, f"got more than {most:g} bytes, expected no more; cut the video or compress it")
        if int(request.headers.get("content-length", 0)) > most:
            raise too_large
        try:
            async with asyncio.timeout(self.limits.max_upload_seconds):
                async for block in request.stream():
                    if file.tell() + len(block) > most:
                        raise too_large
                    write_whole_block(file, block)
        except TimeoutError as error:
            seconds = self.limits.max_upload_seconds
            raise Refusal(SLOW, f"got an upload of more than {seconds:g} s, expected less; cut the video") from error
        except OSError as error:
            raise Refusal(507, f"the server cannot store the upload: {error.strerror}; try again later") from error
        if file.tell() == 0:
            raise Refusal(400, "got no bytes, expected those of a video; curl --data-binary @clip.mp4")
        file.seek(0)

    async def _download(self, kept: ExitStack, url: str) -> BinaryIO:
        """What stands behind an address, if its store is allowed."""
        if not is_address(url) or store_of(url) not in self.limits.allow_urls:
            raise Refusal(
                403,
                "got an address, expected the bytes of a file: this server reads none of that store; download it first",
            )
        try:
            file = downloaded(url, self.limits.max_bytes, self.limits.max_upload_seconds)
            return await run_in_threadpool(kept.enter_context, file)
        except TimeoutError as error:
            raise Refusal(SLOW, str(error)) from error
        except ValueError as error:
            raise Refusal(502, str(error)) from error
        except OSError as error:
            raise Refusal(
                507, "the server cannot store what the address gives: its disk is full; try again later"
            ) from error


async def _unless_gone(request: Request, future: Future) -> dict:
    """The row; where the client goes away before, its video is not read if its turn has not come."""

    async def disconnect() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    row, gone = asyncio.wrap_future(future), asyncio.create_task(disconnect())
    try:
        await asyncio.wait([row, gone], return_when=asyncio.FIRST_COMPLETED)
        if not row.done():
            raise ClientDisconnect
        return row.result()
    finally:
        gone.cancel()
        future.cancel()


def make_api(scorer: VideoQualityAssessmentPipeline, limits: ServerLimits, model: str = "default") -> FastAPI:
    """
    Args:
        scorer: its video processor's reading limits become those of `limits`.
        model: what /health calls it.
    """
    scorer.processor.video_processor.limits = limits.reading
    scores = Scores(scorer, limits)
    metrics = scores.metrics

    @asynccontextmanager
    async def run(app: FastAPI) -> AsyncIterator[None]:
        with scores.batcher:
            yield

    app = FastAPI(
        title="LMM-VQA",
        description=DESCRIPTION,
        version=version("lmmvqa"),
        lifespan=run,
        docs_url=None,  # its page loads scripts of another host
        redoc_url=None,
    )
    app.state.scores = scores
    _answer_refusals(app, metrics)

    @app.post(
        "/v1/score",
        openapi_extra=UPLOAD,
        responses={status: {"description": why} for status, (_, why) in REFUSALS.items()},
    )
    async def score(
        request: Request,
        name: str = Query("upload", max_length=255, description="what the row and messages call the video"),
        problems: bool = Query(False, description="look at every frame for freezes, black, blocking and others"),
        url: str | None = Query(None, max_length=2000, description="an address to read in place of the body"),
    ) -> Response:
        """The row of one video, as `lmmvqa score --json` prints it."""
        try:
            row = await scores.row(request, utf8(name), url, problems)
        except ClientDisconnect:
            metrics.requests.labels("gone").inc()
            return Response(status_code=GONE)
        metrics.seconds.observe(row["seconds"])
        metrics.requests.labels("scored" if row["error"] is None else REFUSALS[422][0]).inc()
        if row["error"] is None and "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(result_html(row))
        return JSONResponse(row, 200 if row["error"] is None else 422)

    @app.get("/v1/samples/{name}.mp4", responses={404: {"description": "no such sample"}})
    async def sample(name: str) -> Response:
        """A clip drawn and encoded here, to try the server with: clean, compressed or faulty."""
        if name not in SAMPLES:
            return JSONResponse({"error": f"got sample {name!r}, expected one of {', '.join(SAMPLES)}"}, 404)
        return Response(await run_in_threadpool(render_sample, name), media_type="video/mp4")

    _add_state(app, scores, model)
    for path in API_PATHS:  # last: what is left of them
        app.add_route(f"{path}{{rest:path}}", NoSuchRequest, include_in_schema=False)
    return app


class NoSuchRequest(HTTPEndpoint):
    """405 where the API has the path with another method, else 404. A class, for which a route takes methods of any name."""

    async def dispatch(self) -> None:
        request = Request(self.scope)
        routes = (route for route in request.app.routes if route.matches(self.scope)[0] is Match.PARTIAL)
        allowed = ", ".join(sorted({method for route in routes for method in route.methods}))
        expected = f"{allowed}; see /openapi.json" if allowed else "a path that /openapi.json describes; see there"
        error = f"got {request.method} {request.url.path}, expected {expected}"
        answer = (
            JSONResponse({"error": error}, 405, {"Allow": allowed}) if allowed else JSONResponse({"error": error}, 404)
        )
        await answer(self.scope, self.receive, self.send)


def _answer_refusals(app: FastAPI, metrics: Metrics) -> None:
    @app.exception_handler(Refusal)
    async def refuse(request: Request, refusal: Refusal) -> JSONResponse:
        metrics.requests.labels(REFUSALS[refusal.status][0]).inc()
        return JSONResponse({"error": str(refusal)}, refusal.status, refusal.headers)

    @app.exception_handler(RequestValidationError)
    async def refuse_parameters(request: Request, failure: RequestValidationError) -> JSONResponse:
        faults = "; ".join(f"{fault['loc'][-1]}: {fault['msg']}" for fault in failure.errors())
        return await refuse(request, Refusal(400, f"got parameters that are none: {faults}; see /openapi.json"))


def _add_state(app: FastAPI, scores: Scores, model: str) -> None:
    """/health and /metrics."""

    @app.get("/health")
    async def health() -> Response:
        """200 as long as videos are scored, 503 otherwise."""
        is_alive = scores.batcher.is_alive
        state = {"status": "ok" if is_alive else "the scoring thread ended", "model": model, "lmmvqa": app.version}
        return JSONResponse(state, 200 if is_alive else 503)

    @app.get("/metrics")
    async def show_metrics() -> Response:
        """Counts and times in Prometheus' text format."""
        return Response(scores.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
