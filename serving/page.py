"""The page: Gradio draws it, and `page.js` sends files to the API. Nothing of Gradio's own takes a file, path or address."""

from pathlib import Path

import gradio
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from .api import API_PATHS
from .limits import ServerLimits
from .samples import SAMPLES


# What the page loads of Gradio. All else that Gradio would answer (uploads, files by path, other hosts' pages, its queue)
# is not there: its components read any address that a client names, and keep uploads by names that others can guess
PAGE_FILES = ("/assets/", "/static/")
PAGE_PATHS = ("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt", "/gradio_api/info")

PAGE = """
<div id="lmmvqa">
<h1>How good does this video look?</h1>
<p>A large multimodal model answers from 0 (worst) to 100 (best), and names freezes, black, blocking and other problems with
their times.</p>
<label class="drop">
  <input type="file" accept="video/*,image/*,.mkv,.ts,.m2ts,.mxf,.y4m" aria-label="Video or picture">
  <strong>Drop a video here, or choose one</strong><br><small>{limits}</small>
</label>
<div class="samples"><span>Or try a sample:</span>{samples}</div>
<p class="status" role="status"></p>
<div class="preview"></div>
<div class="result"></div>
</div>
"""


def mount_page(app: FastAPI, limits: ServerLimits) -> FastAPI:
    """The API with the page at `/`."""
    samples = "".join(f'<button type="button" data-sample="{name}">{name}</button>' for name in SAMPLES)
    words = (
        f"up to {limits.max_bytes / 1e6:g} MB, {limits.max_seconds:g} s, {limits.max_pixels / 1e6:g} million pixels a "
        "frame; it is deleted once it is scored"
    )
    with gradio.Blocks(title="LMM-VQA", analytics_enabled=False) as blocks:
        gradio.HTML(PAGE.format(limits=words, samples=samples))
    folder = Path(__file__).parent
    script = (folder / "page.js").read_text(encoding="utf-8")
    app = gradio.mount_gradio_app(
        app,
        blocks,
        path="/",
        theme=gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        css=(folder / "page.css").read_text(encoding="utf-8"),
        head=f"<script>{script}</script>",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        max_file_size=1,
    )
    app.add_middleware(PageOnly)
    return app


class PageOnly:
    """Hides of Gradio all but what the page loads."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or (scope["type"] == "http" and _is_shown(scope)):
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": b'{"error": "no such page"}'})


def _is_shown(scope: Scope) -> bool:
    path = scope["path"]
    if path.startswith(API_PATHS):
        return True
    return scope["method"] in ("GET", "HEAD") and (path in PAGE_PATHS or path.startswith(PAGE_FILES))
