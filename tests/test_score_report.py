"""`lmmvqa score --report`: what the page says, that texts of strangers stay texts, its size, and how browsers show it."""

import base64
import html
import io
import os
import re
import shutil
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pytest
from conftest import write_clip
from PIL import Image

from lmmvqa.checkpoints.model_card import known_limits
from lmmvqa.commands.command_line import main
from lmmvqa.processing.answers_lmmvqa import DAMAGE_ANSWERS
from lmmvqa.processing.reading_limits_lmmvqa import ReadingLimits
from lmmvqa.scoring import scorer as scorer_module
from lmmvqa.scoring.report import FACT_KEYS, ROW_KEYS
from lmmvqa.scoring.score_report import (
    MAX_CARDS,
    MAX_DETAILED,
    MAX_SHOWN,
    MAX_STEPS,
    PICTURE_SIZE,
    common_folder,
    link,
    lowest_windows,
    picture_moments,
    score_page,
    timeline,
)
from lmmvqa.scoring.thumbnails import VideoPictures, video_pictures


LIMITS = ReadingLimits()
FACTS = dict(zip(FACT_KEYS, [4.0, 4.0, 120, 0, 0, 96, 64, 30.0, None, None], strict=True)) | {"outside": []}


def row(video, score=50.0, windows=(), **values):
    """A row of `score_videos`; `windows` are the scores of seconds."""
    answer = {"score": score, "score_std": 5.0, "level": "fair", "answer": f"{score:.0f}", "damage": None}
    answer |= {"level_probabilities": {"poor": 0.0, "fair": 1.0, "good": 0.0}}
    made = dict.fromkeys(ROW_KEYS) | {"video": video} | answer | FACTS | {"seconds": 0.1}
    if windows:
        parts = [answer | {"start": at, "end": at + 1, "score": float(of)} for at, of in enumerate(windows)]
        worst = min(parts, key=lambda part: part["score"])
        made |= {
            "windows": parts,
            "percentile_5": worst["score"],
            "worst_window": worst,
            "duration": float(len(parts)),
        }
    return made | values


def failure(video, error="Could not read it: it is broken"):
    return dict.fromkeys(ROW_KEYS) | {"video": video, "error": error, "seconds": 0.1}


def page_of(rows, pictures=None, **values):
    made = pictures or {video: VideoPictures() for video in picture_moments(rows)}
    settings = {"path": "report.html", "scale": [0, 100], "thresholds": [40.0, 60.0], "model": "default"}
    return score_page(rows, made, **settings | values)


class Page(HTMLParser):
    """All elements of a page in order, and its text; a page that is not well formed fails."""

    VOID = {"meta", "br", "img"}

    def __init__(self, page):
        super().__init__()
        self.elements, self.text, self._open = [], "", []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "style" not in self._open:
            self.text += data

    def all(self, tag, **attributes):
        return [
            found
            for name, found in self.elements
            if name == tag and all(found.get(key) == value for key, value in attributes.items())
        ]


# what it says


def test_scores_of_a_small_scale_keep_their_digits():
    windows = [0.492, 0.512, 0.498, 0.505]
    rows = [row("a.mp4", 0.492, windows, score_std=0.0493), row("b.mp4", 0.731, score_std=0.0312)]
    page = Page(page_of(rows, scale=[0.0213214, 1.0473], thresholds=[0.41237, 0.6]))
    text = " ".join(page.text.split())
    for words in (
        "0.492 ± 0.049",
        "mean score0.611",
        "up to0.492",
        "Scores from 0.021 (worst) to 1.047 (best)",
        "below 0.412, f",
    ):
        assert words in text
    assert any("lowest 0.492 at" in (image.get("aria-label") or "") for _, image in page.elements)


def test_the_page_of_some_videos():
    damage = dict.fromkeys(DAMAGE_ANSWERS, 0.0) | {"low_resolution": 0.6, "none": 0.4}
    problems = [{"kind": "dropped_frames", "start": 1.0, "end": 1.5, "strength": 0.5}]
    rows = [
        row("clips/b.mp4", 71.04, level="good", damage=damage),
        row("clips/a.mp4", 38.26, [80, 20, 70, 30], level="poor", problems=problems, outside=["frame_rate"]),
        row("clips/c.mp4", 95.0, level="good", problems=[], damaged_frames=3, lost_frames=2, damage=damage),
        failure("clips/d.mp4", "Could not read clips/d.mp4: it is <empty>"),
    ]
    page = Page(page_of(rows, limits=["Nobody rated `a video`."]))
    text = " ".join(page.text.split())
    for words in (
        "Quality of 4 videos",
        "Videos of clips/.",
        "mean score68.1",
        "lowest 5 % up to38.3",
        "good2 67 %",
        "d.mp4Could not read clips/d.mp4: it is <empty>",
        "38.3 ± 5.0 poor",
        "Problems: dropped frames 1.0–1.5 s (0.5)",
        "Problems: none found",
        "(3 of 122 frames damaged or lost)",
        "low resolution 60%",
        "Outside what the model was trained on: frame rate; the score is a guess.",
        "poor below 40, fair from there, good from 60",
        "What the model does not know Nobody rated a video.",
    ):
        assert words in text
    # The lowest first, and each card leads to its video
    names = re.findall(r"\b([abc])\.mp4", text[text.index("All videos, the lowest") :])
    assert list(dict.fromkeys(names)) == ["a", "b", "c"]
    targets = {element.get("id") for _, element in page.elements}
    anchors = [a["href"][1:] for a in page.all("a") if a["href"].startswith("#")]
    assert {"v1", "v2", "v3", "failures"} <= set(anchors) <= targets
    assert [a["href"] for a in page.all("a") if a["href"].endswith("a.mp4")] == ["clips/a.mp4"]
    # Bars of the distribution: 35 to 40, 70 to 75, 95 to 100
    assert [float(bar["x"]) for bar in page.all("rect", **{"class": "bar"})] == [35.25, 70.25, 95.25]
    assert "digest" not in text and "of 1000" not in text


def test_nothing_is_said_of_what_nobody_asked():
    text = Page(page_of([row("a.mp4", score_std=None)])).text
    for words in ("±", "Damage", "Problem", "Timeline", "does not know", "Highest", "Without a score"):
        assert words not in text


def test_a_page_of_failures_alone():
    text = Page(page_of([failure("a.mp4"), failure("b.mp4")])).text
    assert "a.mp4" in text and "mean score" not in text and "All videos" not in text


def test_a_calibrated_scale():
    page = Page(page_of([row("a.mp4", 3.0, scale=[1.0, 5.0])], scale=[1.0, 5.0], thresholds=[2.5, 3.5]))
    text = " ".join(page.text.split())
    assert "Scores from 1 (worst) to 5 (best)" in text and "poor below 2.5, fair from there, good from 3.5" in text
    (bar,) = page.all("rect", **{"class": "bar"})
    assert float(bar["x"]) == 50.25
    assert [float(border["x1"]) for border in page.all("line", **{"class": "border"})] == [37.5, 62.5]


def test_the_model_is_named_by_its_digest():
    page = Page(page_of([row("a.mp4", model="default", model_digest="0123456789abcdef" * 4)]))
    assert "the model default (0123456789ab)" in page.text


# texts of strangers

STRANGE = (
    '<script>alert("1")</script>.mp4',
    "a & b 'c' \"d\".mp4",
    'x" onmouseover="alert(1).mp4',
    "javascript:alert(1).mp4",
    "фильм — 映画.mp4",
    "latin-\udce9.mp4",
    "line\nbreak\u202egpj.mp4",
    "{{ 7 * 7 }}.mp4",
    "50%20 #1?.mp4",
)


@pytest.mark.parametrize("name", STRANGE)
def test_names_stay_names(name):
    rows = [row(name, 40.0, [50, 30, 40]), failure(f"other/{name}", f"Could not read {name}"), row("b.mp4")]
    source = page_of(rows, model=name)
    source.encode("utf-8")
    page = Page(source)
    allowed = {"href", "class", "id", "alt", "src", "width", "height", "title", "style", "role", "d", "x", "y", "lang"}
    allowed |= {"x1", "x2", "y1", "y2", "viewbox", "preserveaspectratio", "open", "name", "content", "charset"}
    allowed |= {"http-equiv", "scope"}
    used = {key for _, element in page.elements for key in element if not key.startswith("aria-")}
    assert used <= allowed and not page.all("script") and "49.mp4" not in page.text
    shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if "\n" not in name and "\udce9" not in name:
        assert shown in page.text
    else:
        assert "\n.mp4" not in page.text and "\u202e" not in page.text
    links = [a["href"] for a in page.all("a") if not a["href"].startswith("#")]
    assert not any(re.match(r"[a-zA-Z]+:", href) for href in links)
    found = [os.fsencode(unquote(href, errors="surrogateescape")) for href in links]
    assert os.fsencode(name) in found and os.fsencode(f"other/{name}") in found


def test_links_lead_from_the_page_to_the_video(tmp_path):
    assert link("clips/a b.mp4", "report.html") == "clips/a%20b.mp4"
    assert link("clips/a.mp4", "out/report.html") == "../clips/a.mp4"
    assert link(str(tmp_path / "a.mp4"), tmp_path / "deep/er/report.html") == "../../a.mp4"
    assert link("https://example.org/a.mp4?x=1", "report.html") == "https://example.org/a.mp4?x=1"
    assert link("s3://bucket/a.mp4", "report.html") is None


@pytest.mark.parametrize(
    ("videos", "folder"),
    [
        (["a.mp4", "b/c.mp4"], ""),
        (["x/a.mp4", "x/b/c.mp4"], "x/"),
        (["/x/ab/a.mp4", "/x/ac/a.mp4"], "/x/"),
        (["x/a.mp4"], "x/"),
        ([], ""),
    ],
)
def test_the_folder_that_names_share(videos, folder):
    assert common_folder(videos) == folder


# timelines and pictures


def test_the_lowest_windows_are_shown():
    long = row("a.mp4", windows=[90, 10, 80, 20, 70, 30, 60, 50])
    assert [window["start"] for window in lowest_windows(long, 3)] == [1, 3, 5]
    assert [window["start"] for window in lowest_windows(row("a.mp4", windows=[90, 10, 80]), 3)] == [1]
    assert lowest_windows(row("a.mp4"), 3)[0]["end"] == 4.0
    assert picture_moments([long | {"duration": 7.5}, failure("b.mp4")]) == {"a.mp4": [1.5, 3.5, 5.5]}
    short = row("a.mp4", windows=[50, 40], duration=1.5)
    assert picture_moments([short]) == {"a.mp4": [1.25]}  # its last window ends after the video


def test_a_timeline_is_drawn_on_the_seconds_of_the_video():
    problems = [{"kind": "freeze", "start": 3.0, "end": 4.0, "strength": 1.0}]
    drawn = timeline(row("a.mp4", windows=[100, 0, 60, 50], problems=problems), 1, VideoPictures(), [0, 100])
    assert drawn["scores"] == "M0 0h250v200h250v-120h250v20h250"
    assert drawn["band"] == "M0 0h250v190h250v-120h250v20h250L1000 110h-250v-20h-250v110h-250v-190h-250z"
    assert [(window["left"], window["width"]) for window in drawn["marked"]] == [(25, 25)]
    assert [(part["left"], part["width"]) for part in drawn["problems"]["freeze"]] == [(75, 25)]
    assert timeline(row("a.mp4", score_std=None), 1, VideoPictures(), [0, 100])["band"] is None


def test_of_a_long_video_a_step_is_the_lowest_of_several_windows():
    scores = np.full(3600, 80.0)
    scores[1801] = 5.0
    drawn = timeline(row("a.mp4", windows=scores.tolist()), 3, VideoPictures(), [0, 100])
    assert drawn["scores"].count("h") == MAX_STEPS and drawn["scores"].count("v") == 2
    assert "v150h8v-150" in drawn["scores"]
    assert len(page_of([row("a.mp4", windows=scores.tolist())])) < 30_000


def test_pictures_are_of_the_moments(tmp_path):
    """A clip that is black, then white from second 1 on, and upright although it is stored lying."""
    video = tmp_path / "a.gif"
    frames = [Image.new("RGB", (640, 320), color) for color in ("black", "white", "black")]
    frames[0].save(video, save_all=True, append_images=frames[1:], duration=1000, loop=0)
    made = video_pictures(str(video), [1.5, 0.5, 99.0], PICTURE_SIZE, LIMITS)
    assert made.error is None and [thumbnail.seconds for thumbnail in made.thumbnails] == [0.5, 1.5, 99.0]
    brightness = []
    for thumbnail in made.thumbnails:
        assert (thumbnail.width, thumbnail.height) == (208, 104)
        prefix, _, data = thumbnail.source.partition(",")
        assert prefix == "data:image/webp;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            assert picture.size == (208, 104)
            brightness.append(np.asarray(picture.convert("L")).mean())
    assert brightness[0] < 10 and brightness[1] > 245 and brightness[2] < 10


def test_why_there_is_no_picture(tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    for video, words in (
        (str(tmp_path / "gone.mp4"), "no such file"),
        (str(tmp_path / "broken.mp4"), "Invalid data found"),
        ("https://example.org/a.mp4", "not downloaded a second time"),
    ):
        made = video_pictures(video, [0.5], PICTURE_SIZE, LIMITS)
        assert made.thumbnails == [] and words in made.error
        page = page_of([row(video)], {video: made})
        assert f"No picture: {html.escape(made.error, quote=True)}".replace("&#x27;", "&#39;") in page
    clip = write_clip(tmp_path / "a.mp4")
    assert "raise max_pixels" in video_pictures(clip, [0], PICTURE_SIZE, ReadingLimits(max_pixels=10)).error


# sizes


def test_a_thousand_videos_and_more_stay_small():
    """Without pictures; with real ones see benchmarks/results/report_size.json."""
    rows = [row(f"{index:04}.mp4", index / 100, [index / 100] * 30) for index in range(2000)]
    moments = picture_moments(rows)
    assert len(moments) == MAX_SHOWN
    numbers = [len(of_video) for of_video in moments.values()]
    assert numbers == [3] * MAX_DETAILED + [1] * (MAX_SHOWN - MAX_DETAILED)
    source = page_of(rows)
    assert len(source) < 5_000_000
    page = Page(source)
    assert len(page.all("details", **{"class": "video"})) == MAX_SHOWN
    assert f"{2000 - MAX_SHOWN:,} videos between" in page.text
    # Everyone has a place, in order
    names = re.findall(r"\b\d{4}\.mp4", page.text[page.text.index("All videos, the lowest") :])
    assert list(dict.fromkeys(names)) == [f"{index:04}.mp4" for index in range(2000)]
    cards = page.text[page.text.index("Highest scores") : page.text.index("All videos, the lowest")]
    assert re.findall(r"\d{4}\.mp4", cards) == [f"{index:04}.mp4" for index in range(1999, 1999 - MAX_CARDS, -1)]


# the command


@pytest.fixture
def scorer(monkeypatch, tiny):
    class Scorer:
        """Scores a file by its size, and one that is no video is a failure."""

        processor = tiny[1]

        def __call__(self, video, readout, problems):
            size = os.path.getsize(video)
            if size < 100:
                raise ValueError(f"Could not read {video}: it is short & bad")
            found = [{"kind": "freeze", "start": 0.2, "end": 0.8, "strength": 0.6}] if problems else None
            of_page = row(str(video), float(size % 101), [30, 90, 60, 70], problems=found)
            return {name: value for name, value in of_page.items() if name not in ("video", "error", "seconds")}

    monkeypatch.setattr(scorer_module, "load_scorer", lambda *arguments, **options: Scorer())


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for index in range(3):
        write_clip(folder / f"<{index}>.mp4", num_frames=120, seed=index)
    (folder / "bad.mp4").write_bytes(b"no video")
    return folder


def test_the_command_writes_a_page_and_a_resumed_run_the_same(folder, model, scorer, tmp_path, capsys):
    report, out = tmp_path / "report.html", tmp_path / "rows.jsonl"
    command = ["score", str(folder), "--model", model, "--report", str(report), "--problems", "--out", str(out)]
    command += ["--windows", str(tmp_path / "windows.csv"), "--timeline", str(tmp_path / "timeline.json")]

    def pages():
        assert main(command) == 1
        text = report.read_text(encoding="utf-8")
        return re.sub(r"Made .* UTC", "", text)

    first = pages()
    page = Page(first)
    assert "freeze 0.2–0.8 s" in page.text and "it is short & bad" in page.text and "<2>.mp4" in page.text
    assert len({img["src"] for img in page.all("img")}) == 3 * 2
    assert all(img["alt"] and img["src"].startswith("data:image/webp;base64,") for img in page.all("img"))
    assert pages() == first  # from the journal, without scoring
    report.unlink()
    lines = (tmp_path / "rows.jsonl.journal").read_bytes().splitlines(keepends=True)
    (tmp_path / "rows.jsonl.journal").write_bytes(b"".join(lines[:2]))
    for path in (out, tmp_path / "windows.csv", tmp_path / "timeline.json"):
        path.unlink()
    assert pages() == first  # as after a kill
    report.write_text("changed by hand")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(command)
    assert "exists already" in capsys.readouterr().err and report.read_text() == "changed by hand"


def test_nothing_is_overwritten_and_other_suffixes_are_refused(folder, model, scorer, tmp_path, capsys):
    for name, words in (("taken.html", "exists already"), ("report.pdf", "expected a name that ends in .html, .htm")):
        (tmp_path / "taken.html").write_text("mine")
        with pytest.raises(SystemExit):
            main(["score", str(folder), "--model", model, "--report", str(tmp_path / name)])
        assert words in capsys.readouterr().err
    assert (tmp_path / "taken.html").read_text() == "mine" and not (tmp_path / "report.pdf").exists()


def test_limits_come_from_the_card(tmp_path, model):
    embedded = known_limits(None)
    assert len(embedded) > 3 and not any("\n" in limit or limit.startswith("-") for limit in embedded)
    assert known_limits("someone/on-the-hub") == known_limits(str(tmp_path)) == []
    (tmp_path / "README.md").write_text(
        "# A\n\n## Limits\n\nOne that\ngoes on.\n\n- two\n  lines\n- three\n\n## Licences\nno\n"
    )
    assert known_limits(str(tmp_path)) == ["One that goes on.", "two lines", "three"]


# in a browser

CONTRAST = """() => {
  const rgb = color => color.match(/[\\d.]+/g).map(Number);
  const light = color => rgb(color).slice(0, 3).map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const ground = element => { for (; element; element = element.parentElement) {
    const color = getComputedStyle(element).backgroundColor; if ((rgb(color)[3] ?? 1) > 0) return color; } };
  return [...document.querySelectorAll("body *")].filter(e => e.checkVisibility() && e.namespaceURI.endsWith("xhtml") &&
      [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim())).map(e => {
    const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x);
    return [(a + .05) / (b + .05), e.className + ": " + e.textContent.trim().slice(0, 40)]; }).sort((x, y) => x[0] - y[0])[0];
}"""
TOO_WIDE = """() => [...document.querySelectorAll("body *")].filter(e => e.checkVisibility() && !e.closest(".scroll") &&
  e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"], timeout=240_000)
        yield browser
        browser.close()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390, 320])
def test_a_browser_shows_it(browser, folder, model, scorer, tmp_path, scheme, width):
    long_name = f"{'a_very_long_name_without_a_space' * 6}.mp4"
    shutil.copy(folder / "<0>.mp4", folder / long_name)
    report = tmp_path / "report.html"
    assert main(["score", str(folder), "--model", model, "--report", str(report), "--problems"]) == 1
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme, offline=True)
    page = context.new_page()
    page.set_default_timeout(120_000)
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.on(
        "request", lambda request: said.append(request.url) if not request.url.startswith(("file:", "data:")) else None
    )
    page.goto(report.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == width and page.evaluate(TOO_WIDE) == []
    contrast, where = page.evaluate(CONTRAST)
    assert contrast >= 4.5, where
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0 && i.alt)")
    # By keyboard: every video can be reached, and opens with Enter
    closed = page.locator("details.video:not([open])")
    assert closed.count() == 2
    last = page.locator("details.video").last
    for _ in range(60):
        page.keyboard.press("Tab")
        if last.evaluate("of => of.firstElementChild === document.activeElement"):
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.keyboard.press("Enter")
    assert last.evaluate("of => of.open") and closed.count() == 1
    # A card leads to its video, which opens
    page.locator("#highest a").last.click()
    assert closed.count() == 0
    assert page.evaluate(TOO_WIDE) == [] and page.evaluate(CONTRAST)[0] >= 4.5
    assert said == []
    context.close()
