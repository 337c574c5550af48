"""The picture of docs/look_at_a_report.md: a folder of clips, its page, and what Chromium shows of it.

`python benchmarks/report_picture.py --work runs/report_picture --out docs/look_at_a_report.png`

Pans over photographs of scikit-image, which are in the public domain (NASA) or CC0, and versions of them by
`datasets_scripts/degraded/distortions.py`. Needs the extras `data` and `dev`, and Chromium.
"""

import argparse
import contextlib
import io
import shutil
from pathlib import Path

import av
import numpy as np
import skimage.data
from PIL import Image
from playwright.sync_api import sync_playwright

from lmmvqa.commands.command_line import main as lmmvqa
from lmmvqa.datasets_scripts.degraded.distortions import degrade


SIZE, FPS, SECONDS = (480, 270), 30, 6
PHOTOGRAPHS = ("astronaut", "cat", "coffee", "rocket")
# name: photograph, kind, strength
VERSIONS = {
    "astronaut_at_night": ("astronaut", "noise", 4),
    "cat_out_of_focus": ("cat", "blur", 4),
    "coffee_upload": ("coffee", "h264", 4),
    "rocket_call": ("rocket", "freeze", 4),
}
# Of the page, in CSS pixels, and colours of the stored picture
WIDTH_SHOWN, HEIGHT_SHOWN, COLOURS = 1100, 1800, 128


def draw_pan(photograph: str, path: Path) -> None:
    """From left to right over the photograph, and a little closer meanwhile."""
    picture = Image.fromarray(getattr(skimage.data, photograph)())
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for share in np.linspace(0, 1, SECONDS * FPS).tolist():
            width = (0.95 - 0.15 * share) * picture.width
            height = width * SIZE[1] / SIZE[0]
            left, top = share * (picture.width - width), (picture.height - height) / 2
            frame = picture.resize(SIZE, Image.Resampling.BICUBIC, (left, top, left + width, top + height))
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode(None))


def draw_folder(folder: Path) -> None:
    folder.mkdir(parents=True)
    for photograph in PHOTOGRAPHS:
        draw_pan(photograph, folder / f"{photograph}.mp4")
    for name, (photograph, kind, strength) in VERSIONS.items():
        degrade(folder / f"{photograph}.mp4", kind, strength, "0", folder / f"{name}.mp4")
    (folder / "notes.mp4").write_text("not a video")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, type=Path)
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()

    report = arguments.work / "report.html"
    if not arguments.work.exists():
        draw_folder(arguments.work / "clips")
    report.unlink(missing_ok=True)
    with contextlib.chdir(arguments.work):
        lmmvqa(["score", "clips", "--problems", "--report", report.name])
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
