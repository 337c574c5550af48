"""`lmmvqa compare --report`: what the page says, and how browsers show it."""

import pytest
from conftest import write_clip
from test_score_report import CONTRAST, TOO_WIDE, Page, browser, row  # noqa: F401

from lmmvqa.commands.command_line import main
from lmmvqa.evaluation.comparison_report import compared_moments
from lmmvqa.scoring import scorer as scorer_module


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("versions")
    names = ("<b>original", "crf24 & slow", "crf34", "a_very_long_name_without_any_space_" * 4)
    return [
        write_clip(folder / f"{name}.mp4", num_frames=120, size=(size, size), seed=0)
        for name, size in zip(names, (96, 80, 64, 48), strict=True)
    ]


@pytest.fixture
def scored(monkeypatch, versions):
    """Scores 80, 70, ... with windows; of other files there is none."""

    def score_videos(scorer, videos):
        for video in videos:
            if video in versions:
                score = 80.0 - 10 * versions.index(video)
                seen = {"lost_frames": 2, "damaged_frames": 3, "outside": ["hdr"]} if score == 70 else {}
                yield row(video, score, [score + 5, score + 5, score - 15, score + 5], **seen)
            else:
                yield row(video) | {"error": f"Could not read {video}: it is <broken>"}

    monkeypatch.setattr(scorer_module, "score_videos", score_videos)


@pytest.fixture
def compare(checkpoint, scored, tmp_path):
    def run(*arguments):
        report = tmp_path / "report.html"
        options = ["--model", str(checkpoint), "--report", str(report), *map(str, arguments)]
        return main(["compare", *options]), report

    return run


def test_the_page_of_versions(compare, versions, capsys):
    status, report = compare("--within", "20", *versions[::-1])
    page = Page(report.read_text(encoding="utf-8"))
    text = " ".join(page.text.split())
    assert status == 0 and capsys.readouterr().out.splitlines()[-1] == f"wrote {report}"
    for words in (
        "4 versions compared",
        "1<b>original.mp480.0 ± 5.0fair",
        "2crf24 & slow.mp4(3 of 122 frames damaged or lost)(outside: hdr)70.0 ± 5.0fair92 %",
        "Outside: no model here was trained on HDR (hdr), a shorter side",
        "within 20 points of the best: crf34.mp4",
        "2.5 s 1 <b>original.mp4: 65.0 ± 5.0",
        "better than no.1234",
        "The same moments of all versions",
        "0.5 s",
        "2.5 s",
    ):
        assert words in text
    assert "BD-rate" not in text and "Without a score" not in text and not page.all("script") and not page.all("b")
    pictures = page.all("img")
    assert len(pictures) == 2 * 4 and {image["width"] for image in pictures} == {"96", "80", "64", "48"}
    assert [image["alt"] for image in pictures[:2]] == ["<b>original.mp4 at 0.5 s", "crf24 & slow.mp4 at 0.5 s"]
    points = page.all("circle")
    assert len(points) == 4
    heights = [float(point["cy"].rstrip("%")) for point in points]
    assert heights == sorted(heights) and 0 < heights[0] < heights[-1] < 100


def test_ladders_and_failures(compare, versions, tmp_path, monkeypatch):
    sizes = dict(zip(versions, (8000, 4000, 4000, 2000), strict=True))
    monkeypatch.setattr("lmmvqa.commands.compare.os.path.getsize", lambda path: sizes[path])
    monkeypatch.setattr("lmmvqa.evaluation.comparison.MIN_RUNGS", 2)
    monkeypatch.setattr("lmmvqa.evaluation.comparison.bd_rate", lambda *ladders: -12.34)
    status, report = compare(*versions[::2], tmp_path / "gone.mp4", "--ladder", *versions[1::2])
    page = Page(report.read_text(encoding="utf-8"))
    assert status == 1
    assert "ladder against the first: -12.3 % bits for the same score" in page.text
    assert "gone.mp4" in page.text and "it is <broken>" in page.text
    assert len(page.all("circle", **{"class": "other"})) == 2
    assert page.all("path", **{"class": "curve ladder2"})


def test_the_page_is_not_written_over_a_file(compare, versions, tmp_path, capsys):
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(SystemExit):
        compare(*versions)
    assert "exists already" in capsys.readouterr().err and (tmp_path / "report.html").read_text() == "mine"


def test_moments_are_of_the_lowest_version():
    rows = {"a": row("a", windows=[10, 50, 50, 50]), "b": row("b", windows=[50, 50, 30, 20])}
    assert compared_moments([{"video": "a"}, {"video": "b"}], rows) == [2.5, 3.5]
    assert compared_moments([{"video": "a"}] * 12 + [{"video": "b"}], rows) == [3.5]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_it(browser, compare, versions, scheme, width):  # noqa: F811
    _, report = compare(*versions)
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme, offline=True)
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.goto(report.as_uri())
    page.locator("summary").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") == width and page.evaluate(TOO_WIDE) == []
    contrast, where = page.evaluate(CONTRAST)
    assert contrast >= 4.5, where
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0 && i.alt)")
    context.close()
