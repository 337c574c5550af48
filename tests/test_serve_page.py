"""The page of `lmmvqa serve` in Chromium: a clip is uploaded and its score read, at the width of a desk and of a phone."""

import shutil
from pathlib import Path

import pytest
from conftest import write_clip


sync_api = pytest.importorskip("playwright.sync_api")

from test_serve import held, running, scorer  # noqa: E402, F401

from lmmvqa.serving.limits import ServerLimits  # noqa: E402


CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
]
MILLISECONDS = 600_000


def fits(page) -> bool:
    """Whether nothing reaches beyond the window at its right."""
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_clip_is_uploaded_and_its_score_read(scorer, tmp_path):  # noqa: F811
    clip = write_clip(tmp_path / "<b>walk.mp4", num_frames=90)
    (tmp_path / "notes.mp4").write_text("no video")
    with running(scorer, ServerLimits()) as (address, _), sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1100})
        page.set_default_timeout(MILLISECONDS)
        requested, errors = [], []
        page.on("request", lambda request: requested.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address, timeout=MILLISECONDS)
        page.wait_for_selector("#lmmvqa .drop")
        page.screenshot(path=tmp_path / "empty.png", full_page=True)

        page.set_input_files("#lmmvqa input[type=file]", clip)
        score = page.text_content("#lmmvqa .score b")
        assert score == f"{scorer(clip)['score']:.1f}"
        assert page.text_content("#lmmvqa h2.name") == "<b>walk.mp4"

        page.set_input_files("#lmmvqa input[type=file]", tmp_path / "notes.mp4")
        assert "Could not read notes.mp4" in page.text_content("#lmmvqa .status.error")
        assert page.query_selector("#lmmvqa .score") is None

        page.click("#lmmvqa button[data-sample=faulty]")
        page.wait_for_selector("#lmmvqa .problem")
        assert {"freeze", "black"} <= set(page.locator("#lmmvqa .problem span:first-child").all_text_contents())
        page.wait_for_function("document.querySelector('#lmmvqa video').readyState >= 2")
        page.click("#lmmvqa .problem:has-text('freeze') .track button")
        assert page.evaluate("document.querySelector('#lmmvqa video').currentTime") == pytest.approx(1.0, abs=0.1)
        for scheme in ("light", "dark"):
            page.evaluate("(isDark) => document.body.classList.toggle('dark', isDark)", scheme == "dark")
            for name, width in (("desk", 1280), ("phone", 390)):
                page.set_viewport_size({"width": width, "height": 900})
                page.screenshot(path=tmp_path / f"{name}_{scheme}.png", full_page=True)
                assert fits(page), (name, scheme)
        browser.close()
    assert not errors
    elsewhere = {url for url in requested if not url.startswith((address, "blob:", "data:"))}
    assert not elsewhere


def test_a_busy_server_is_asked_again(held, tmp_path):  # noqa: F811
    first, second = (write_clip(tmp_path / f"{index}.mp4") for index in range(2))
    with running(held, ServerLimits(max_requests=1)) as (address, _), sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        pages = [browser.new_page() for _ in range(2)]
        for page, clip in zip(pages, (first, second), strict=True):
            page.set_default_timeout(MILLISECONDS)
            page.goto(address, timeout=MILLISECONDS)
            page.set_input_files("#lmmvqa input[type=file]", clip)
            page.wait_for_function(
                "(words) => document.querySelector('#lmmvqa .status').textContent.includes(words)",
                arg="Scoring" if clip == first else "busy",
            )
        held.may_go_on.set()
        names = [page.text_content("#lmmvqa h2.name") for page in pages]
        browser.close()
    assert names == [Path(clip).name for clip in (first, second)]
