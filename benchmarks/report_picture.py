"""The picture of docs/look_at_a_report.md: a folder of drawn clips, its page, and what Chromium shows of it.

`python benchmarks/report_picture.py --work runs/report_picture --out docs/look_at_a_report.png`

Six seconds of the scene of `lmmvqa selfcheck` and its versions by `datasets_scripts/degraded/distortions.py`, so that nobody's
material is in the picture. Needs the extras `data` and `dev`, and Chromium.
"""

import argparse
import io
import shutil
from pathlib import Path

import av
from PIL import Image
from playwright.sync_api import sync_playwright

from lmmvqa.commands.command_line import main as lmmvqa
from lmmvqa.datasets_scripts.degraded.distortions import degrade
from lmmvqa.scoring.render_selfcheck_clip import FPS, HEIGHT, WIDTH, draw_frame


SECONDS = 6
VERSIONS = {
    "upload_small": ("h264", 4),
    "out_of_focus": ("blur", 4),
    "at_night": ("noise", 4),
    "from_a_call": ("freeze", 3),
    "enlarged": ("downscale", 4),
}
# Of the page, in CSS pixels, and colours of the stored picture
WIDTH_SHOWN, HEIGHT_SHOWN, COLOURS = 1000, 1750, 128


def draw_folder(folder: Path) -> None:
    folder.mkdir(parents=True)
    original = folder / "original.mp4"
    with av.open(str(original), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(SECONDS * FPS):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(draw_frame(index / FPS), format="rgb24")))
        container.mux(stream.encode(None))
    for name, (kind, strength) in VERSIONS.items():
        degrade(original, kind, strength, "0", folder / f"{name}.mp4")
    (folder / "notes.mp4").write_text("not a video")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, type=Path)
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()

    folder, report = arguments.work / "clips", arguments.work / "report.html"
    if not folder.exists():
        draw_folder(folder)
    report.unlink(missing_ok=True)
    lmmvqa(["score", str(folder), "--problems", "--report", str(report)])
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"], timeout=240_000
        )
        page = browser.new_page(viewport={"width": WIDTH_SHOWN, "height": HEIGHT_SHOWN}, color_scheme="light")
        page.goto(report.resolve().as_uri())
        shot = page.screenshot(timeout=240_000)
        browser.close()
    Image.open(io.BytesIO(shot)).convert("RGB").quantize(COLOURS).save(arguments.out, optimize=True)


if __name__ == "__main__":
    main()
