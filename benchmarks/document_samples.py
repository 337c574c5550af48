"""What README.md and docs/ show of the embedded model: sample outputs and pictures, made anew in place.

`python benchmarks/document_samples.py`, or of some documents alone `... docs/bad_seconds.md docs/serve.md`

A text block right after `<!-- sample -->` holds commands (`$ ...`), each with what it prints; right after `<!-- sample: COMMAND -->`
what that command prints. They run in a folder of clips that are drawn here for the document, with its first Python block
as example.py. What hangs on the machine (seconds), and what takes too much room, is `…` or `...`. Documents
that changed are shown as a diff; a second run changes nothing.

Clips are pans over photographs of scikit-image, which are in the public domain (NASA) or CC0. Needs the extras `data`, `dev`,
`serve` and `onnx`, Chromium, curl, and `npm install --prefix browser`; ports 7860 and 8000 have to be free.
"""

import argparse
import base64
import contextlib
import difflib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
import urllib.request
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import av
import numpy as np
import skimage.data
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from lmmvqa.datasets_scripts.degraded.distortions import degrade
from lmmvqa.datasets_scripts.degraded.ffmpeg_process import measure_vmaf, run_ffmpeg


ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",  # on a busy machine threads wait for one another
    "TQDM_DISABLE": "1",
    "PYTHONUNBUFFERED": "1",  # what goes to stdout and to stderr comes in order
}
SIZE, FPS, SECONDS = (480, 270), 30, 6
PHOTOGRAPHS = ("astronaut", "cat", "coffee", "rocket")
H264 = "-an -c:v libx264 -threads 1 -crf"
H265 = "-an -c:v libx265 -x265-params log-level=error:pools=none:frame-threads=1 -crf"
PATIENCE = 240_000  # milliseconds, of a browser on a busy machine


# Blocks


SAMPLE = re.compile(
    r"(?<=^<!-- sample)(?:: (?P<hidden>.+?))?(?P<gap> -->\n```text\n)(?P<text>.*?)(?=^```$)", re.MULTILINE | re.DOTALL
)
BETWEEN = "-- next command --"
# Longest line, and how many numbers of one kind and items of a list are shown
WIDTH, MOST_NUMBERS, MOST_ITEMS = 130, 5, 3


def renewed(document: str, folder: Path) -> str:
    """A document, with the samples that its commands print in the folder."""

    def renew(match: re.Match) -> str:
        if match["hidden"]:
            return f": {match['hidden']}{match['gap']}{printed([match['hidden']], folder)[0]}"
        commands = [line[2:] for line in match["text"].splitlines() if line.startswith("$ ")]
        blocks = zip(commands, printed(commands, folder), strict=True)
        return match["gap"] + "".join(f"$ {command}\n{text}" for command, text in blocks)

    return SAMPLE.sub(renew, document)


def printed(commands: list[str], folder: Path) -> list[str]:
    """What each of some lines of bash prints, as a document shows it.

    Raises:
        RuntimeError: one of them failed in another way than documents show: 1 is a video without score, 3 one below a limit.
    """
    # The status goes on to the next command, for `echo $?`
    script = "".join(f"{command}\n(status=$?; echo '{BETWEEN}'$status; exit $status)\n" for command in commands)
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=ENVIRONMENT, **output)
    found = re.findall(f"(.*?){BETWEEN}(\\d+)\n", done.stdout, re.DOTALL)
    for command, (text, status) in zip(commands, found, strict=True):
        if status not in {"0", "1", "3"} or "Traceback" in text:
            raise RuntimeError(f"{command} failed with status {status}:\n{text}")
    return ["".join(f"{shown(line)}\n" for line in text.splitlines()) for text, _ in found]


def shown(line: str) -> str:
    """A printed line as a document shows it: JSON shortened, long fractions rounded, times left out."""
    if line.startswith("{"):
        line = brief(json.loads(line))
        return "\n".join(
            textwrap.wrap(line, WIDTH, subsequent_indent=" ", break_long_words=False, break_on_hyphens=False)
        )
    line = re.sub(r"\d+\.\d{4,}", lambda number: f"{float(number[0]):.3f}", line)
    return re.sub(r"(videos, .*, )[\d.]+ s$", r"\1… s", line)


def brief(value: object, key: str = "") -> str:
    """JSON with three decimals, of many numbers the highest and of many items the first."""
    if key == "seconds":
        return "…"
    if isinstance(value, dict):
        keys = list(value)
        if len(keys) > MOST_NUMBERS and all(isinstance(number, float) for number in value.values()):
            keys = sorted(keys, key=value.__getitem__, reverse=True)[:MOST_ITEMS]
        parts = [f"{json.dumps(name)}: {brief(value[name], name)}" for name in keys]
        return f"{{{', '.join(parts + ['...'] * (len(keys) < len(value)))}}}"
    if isinstance(value, list):
        # Of windows the first, of problems all
        items = value[: 1 if any(len(item) > MOST_NUMBERS for item in value if isinstance(item, dict)) else MOST_ITEMS]
        return f"[{', '.join([brief(item) for item in items] + ['...'] * (len(items) < len(value)))}]"
    return f"{value:.3f}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


# Clips


def draw_pan(photograph: str, path: Path) -> None:
    """From left to right over a photograph, and a little closer meanwhile."""
    picture = Image.fromarray(getattr(skimage.data, photograph)())
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "18", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for share in np.linspace(0, 1, SECONDS * FPS).tolist():
            width = (0.95 - 0.15 * share) * picture.width
            height = width * SIZE[1] / SIZE[0]
            left, top = share * (picture.width - width), (picture.height - height) / 2
            frame = picture.resize(SIZE, Image.Resampling.BICUBIC, (left, top, left + width, top + height))
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode(None))


def encode(source: Path, options: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    run_ffmpeg(["-i", str(source), *options.split(), str(path)])


def draw_upload(folder: Path) -> None:
    draw_pan("coffee", folder / "walk.mp4")
    encode(folder / "walk.mp4", f"{H264} 44", folder / "walk_upload.mp4")


def draw_broken(folder: Path) -> None:
    draw_upload(folder)
    (folder / "broken.mp4").write_text("not a video")


def draw_holiday(folder: Path) -> None:
    holiday = folder / "holiday"
    draw_pan("coffee", holiday / "coffee.mp4")
    encode(holiday / "coffee.mp4", f"{H264} 44", holiday / "coffee_draft.mp4")
    draw_pan("cat", holiday / "cat.mp4")
    (holiday / "notes.mp4").write_text("not a video")


def draw_blurred(folder: Path) -> None:
    draw_pan("coffee", folder / "coffee.mp4")
    encode(folder / "coffee.mp4", f"-vf gblur=6:enable='between(t,3,5)' {H264} 18", folder / "coffee_blurred.mp4")


def draw_faulty(folder: Path) -> None:
    """A picture that stands from second 1 to 2.2, and black from second 4 to 4.6."""
    draw_pan("rocket", folder / "rocket.mp4")
    filters = "select='not(between(n,31,66))',fps=30,drawbox=enable='between(t,4,4.6)':color=black:t=fill"
    encode(folder / "rocket.mp4", f"-vf {filters} {H264} 18", folder / "clip.mp4")


def draw_encodes(folder: Path) -> None:
    draw_pan("coffee", folder / "clip.mp4")
    for crf in (24, 34, 44):
        encode(folder / "clip.mp4", f"{H264} {crf}", folder / f"crf{crf}.mp4")
    for crf in range(22, 50, 4):
        encode(folder / "clip.mp4", f"{H264} {crf} -preset veryfast", folder / f"x264/{crf}.mp4")
        encode(folder / "clip.mp4", f"{H265} {crf} -preset veryfast", folder / f"x265/{crf}.mp4")


def draw_data_set(folder: Path) -> None:
    draw_upload(folder)
    filters = "select='not(between(n,61,81))',fps=30"
    encode(folder / "walk.mp4", f"-vf {filters} {H264} 18", folder / "walk_stands.mp4")
    (folder / "notes.mp4").write_text("not a video")


def draw_rated(folder: Path) -> None:
    """Twelve clips, with VMAF and noise in place of people's ratings."""
    rng = np.random.default_rng(0)
    lines = ["video,mos"]
    for photograph in PHOTOGRAPHS:
        draw_pan(photograph, folder / f"{photograph}.mp4")
        for crf in (24, 34, 44):
            clip = folder / f"{photograph}_crf{crf}.mp4"
            encode(folder / f"{photograph}.mp4", f"{H264} {crf}", clip)
            vmaf = measure_vmaf(clip, folder / f"{photograph}.mp4", subsample=10)
            lines.append(f"{clip.name},{min(5, max(1, 1 + vmaf / 25 + rng.normal(0, 0.25))):.2f}")
    (folder / "ratings.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


# Servers and pictures


def run(command: str, folder: Path) -> None:
    subprocess.run(["bash", "-c", command], cwd=folder, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def server(command: list[str], address: str, folder: Path) -> Iterator[None]:
    """Runs while a server answers at the address."""
    with open(folder / "server.log", "w") as log:
        process = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stdout=log, stderr=log)
    try:
        for _ in range(PATIENCE // 1000):
            if process.poll() is not None:
                raise RuntimeError(f"{' '.join(command)} ended:\n{(folder / 'server.log').read_text()}")
            with contextlib.suppress(OSError):
                urllib.request.urlopen(address)
                break
            time.sleep(1)
        yield
    finally:
        process.terminate()
        process.wait(60)


@contextlib.contextmanager
def chromium_page(width: int, height: int) -> Iterator[Page]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"], timeout=PATIENCE
        )
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
        page.set_default_timeout(PATIENCE)
        page.goto("about:blank")
        yield page
        browser.close()


def take_picture(page: Page, name: str, colours: int = 128) -> None:
    """What the window shows, as a picture of docs/."""
    shot = Image.open(io.BytesIO(page.screenshot(timeout=PATIENCE))).convert("RGB").quantize(colours)
    path = ROOT / "docs" / name
    is_same = path.is_file() and np.array_equal(np.asarray(Image.open(path).convert("RGB")), shot.convert("RGB"))
    if not is_same:
        shot.save(path, optimize=True)
        print(f"docs/{name} is new")


def picture_report(folder: Path) -> None:
    versions = {  # name: photograph, kind, strength
        "astronaut_at_night": ("astronaut", "noise", 4),
        "cat_out_of_focus": ("cat", "blur", 4),
        "coffee_upload": ("coffee", "h264", 4),
        "rocket_call": ("rocket", "freeze", 4),
    }
    clips = folder / "clips"
    for photograph in PHOTOGRAPHS:
        draw_pan(photograph, clips / f"{photograph}.mp4")
    for name, (photograph, kind, strength) in versions.items():
        degrade(clips / f"{photograph}.mp4", kind, strength, "0", clips / f"{name}.mp4")
    (clips / "notes.mp4").write_text("not a video")
    run("lmmvqa score clips --problems --report report.html || test $? = 1", folder)  # notes.mp4 has no score
    report = folder / "report.html"
    made = re.compile(r"Made [\d-]+ [\d:]+ UTC")
    report.write_text(made.sub("Made … UTC", report.read_text(encoding="utf-8")), encoding="utf-8")
    with chromium_page(1100, 1800) as page:
        page.goto(report.as_uri())
        take_picture(page, "look_at_a_report.png")


@contextlib.contextmanager
def served_page(folder: Path) -> Iterator[None]:
    """The page with the score of a clip, at the width of a desk and of a phone; the server runs on for the commands."""
    draw_faulty(folder)
    address = "http://127.0.0.1:7860"
    with server(["lmmvqa", "serve"], f"{address}/health", folder):
        with chromium_page(1100, 900) as page:
            page.goto(address)
            page.wait_for_selector("#lmmvqa .drop")
            page.set_input_files("#lmmvqa input[type=file]", folder / "clip.mp4")
            page.wait_for_selector("#lmmvqa .problem")
            page.wait_for_function("document.querySelector('#lmmvqa video').readyState >= 2")
            # What hangs on the machine
            page.evaluate(
                "() => { const texts = document.createTreeWalker(document.querySelector('#lmmvqa'), NodeFilter.SHOW_TEXT);"
                " while (texts.nextNode()) texts.currentNode.data = texts.currentNode.data.replace(/answered in .* s/, 'answered in … s'); }"
            )
            for name, width, height in (("serve.png", 1100, 1120), ("serve_phone.png", 390, 1220)):
                page.set_viewport_size({"width": width, "height": height})
                take_picture(page, name)
        yield


def png_of_photograph(name: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(getattr(skimage.data, name)()).save(file, "PNG")
    return file.getvalue()


@contextlib.contextmanager
def served_questions(folder: Path) -> Iterator[None]:
    draw_upload(folder)
    (folder / "walk_upload.mp4").rename(folder / "clip.mp4")
    asset = {
        "type": "video",
        "format": "mp4",
        "data_base64": base64.b64encode((folder / "clip.mp4").read_bytes()).decode(),
    }
    question = {"type": "score", "criteria": ["bad", "poor", "fair", "good", "excellent"]}
    request = {"model": "./mine", "state": "clip", "assets": {"clip": asset}, "questions": {"quality": question}}
    (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
    picture = {"type": "image", "format": "png", "data_base64": base64.b64encode(png_of_photograph("coffee")).decode()}
    question = {"type": "choice", "criteria": {"compression": None, "blur": None, "noise": None, "none": None}}
    request = {"model": "./mine", "state": "photo", "assets": {"photo": picture}, "questions": {"fault": question}}
    (folder / "picture.json").write_text(json.dumps(request), encoding="utf-8")
    run(f"lmmvqa export --model {ROOT}/default_checkpoint --card {ROOT}/model_card.md --out mine", folder)
    code = "from transformers.cli.transformers import main; main()"
    command = [
        sys.executable,
        "-c",
        code,
        "serve",
        "./mine",
        "--trust-remote-code",
        "--device",
        "cpu",
        "--port",
        "8000",
    ]
    with server(command, "http://localhost:8000/health", folder):
        yield


def score_in_browser(folder: Path) -> None:
    """page.txt: what index.html says of a clip."""
    draw_upload(folder)
    shutil.copytree(ROOT / "browser", folder / "browser", ignore=shutil.ignore_patterns("model"))
    run("lmmvqa export --onnx --out browser/model", folder)
    command = [sys.executable, "-m", "http.server", "8000", "--directory", "browser"]
    with server(command, "http://localhost:8000", folder), chromium_page(800, 900) as page:
        page.goto("http://localhost:8000")
        page.wait_for_selector("input:enabled")
        page.set_input_files("input", folder / "walk_upload.mp4")
        page.wait_for_selector("#result:visible")
        bars = [" ".join(page.locator(".bar").nth(index).inner_text().split()) for index in range(5)]
        lines = [page.inner_text("#state"), page.inner_text("#score"), f"{', '.join(bars)}, ..."]
    (folder / "page.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def name_weights(folder: Path) -> None:
    packages = ("av", "imageio-ffmpeg", "torch", "transformers")
    selfcheck = json.loads((ROOT / "default_checkpoint/selfcheck.json").read_text(encoding="utf-8"))
    lines = [f"weights {selfcheck['weights']}", *(f"{name} {version(name)}" for name in packages)]
    (folder / "weights.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


# What makes the folder of a document; some run on while its commands do
FOLDERS: dict[str, Callable[[Path], object]] = {
    "README.md": draw_broken,
    "docs/bad_seconds.md": draw_blurred,
    "docs/compare_encodes.md": draw_encodes,
    "docs/curate_a_data_set.md": draw_data_set,
    "docs/find_problems.md": draw_faulty,
    "docs/guard_a_pipeline.md": draw_upload,
    "docs/look_at_a_report.md": picture_report,
    "docs/maintaining.md": name_weights,
    "docs/onnx_and_browser.md": score_in_browser,
    "docs/own_scale.md": draw_rated,
    "docs/score_a_folder.md": draw_holiday,
    "docs/serve.md": served_page,
    "docs/typed_questions.md": served_questions,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "documents", nargs="*", default=list(FOLDERS), metavar="DOCUMENT", help="such as docs/serve.md"
    )
    for name in parser.parse_args().documents:
        path = ROOT / name
        before = path.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder, FOLDERS[name](Path(folder)) or contextlib.nullcontext():
            if code := re.search(r"^```python\n(.*?)^```$", before, re.MULTILINE | re.DOTALL):
                Path(folder, "example.py").write_text(code[1], encoding="utf-8")
            after = renewed(before, Path(folder))
        path.write_text(after, encoding="utf-8")
        lines = (text.splitlines(keepends=True) for text in (before, after))
        sys.stdout.writelines(difflib.unified_diff(*lines, name, name, n=0))


if __name__ == "__main__":
    main()
