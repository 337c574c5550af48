"""Web pages and phone apps that Chromium draws -> contents.

A page is drawn once, as tall as it is, and scrolled by whole pixels as a screen scrolls.
"""

import html
import math
import random
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from .content import SECONDS, Content, numbered
from .drawn_scenes import clipart
from .hidden_screen import require_programs
from .random_text import SCRIPTS, words
from .storing import store


PAGES = 80
WINDOWS = ((1280, 720), (1280, 720), (1920, 1080), (1024, 768), (720, 1280), (540, 960))
RATES = (25, 30, 30, 60)
PAGE_SCREENS = 3  # height of a page, in windows
BAR = 56  # pixels at the top that do not scroll


def plan(shared: Path) -> list[Content]:
    """Web pages and phone apps, each its own group."""
    require_programs(chromium="chromium")
    pictures = clipart()
    return numbered(
        "page",
        PAGES,
        "screen",
        "page of this recipe, drawn by chromium (Debian), fonts-noto and openclipart-png",
        "own page; fonts OFL-1.1, pictures CC0-1.0",
        record_page,
        pictures,
        motion=0.0,
    )


def page(rng: random.Random, pictures: list[Path]) -> str:
    """A page of headings, paragraphs, cards, tables and pictures, light or dark, as HTML."""
    script = rng.choice(list(SCRIPTS))
    dark, size = rng.random() < 0.35, rng.randint(13, 24)
    ground, ink = ("#15181d", "#d8dce2") if dark else ("#fcfcfa", "#1d2228")
    accent = f"hsl({rng.randint(0, 359)} {rng.randint(40, 90)}% {rng.randint(35, 60)}%)"
    family = rng.choice(("Noto Sans", "Noto Serif", "DejaVu Sans", "monospace"))

    def text(low: int, high: int) -> str:
        return html.escape(words(rng, script, rng.randint(low, high)))

    def picture() -> str:
        return f'<img src="file://{rng.choice(pictures)}" style="height:{rng.randint(80, 260)}px;margin:8px">'

    def cards() -> str:
        card = "border:1px solid #8886;border-radius:10px;padding:12px;box-shadow:0 3px 9px #0003"
        return (
            '<div style="display:grid;grid-template-columns:repeat(auto-fill,minmax(210px,1fr));gap:16px">'
            + "".join(
                f'<div style="{card}">{picture()}<b>{text(2, 4)}</b><p>{text(6, 14)}</p></div>'
                for _ in range(rng.randint(3, 8))
            )
            + "</div>"
        )

    def table() -> str:
        rows = "".join(
            "<tr>"
            + "".join(f"<td>{rng.choice((text(1, 2), rng.randint(0, 99999)))}</td>" for _ in range(columns))
            + "</tr>"
            for columns in [rng.randint(3, 7)] * rng.randint(5, 20)
        )
        return f'<table border=1 cellpadding=6 style="border-collapse:collapse;border-color:#8888">{rows}</table>'

    def messages() -> str:
        bubble = f"max-width:70%;padding:10px 14px;border-radius:16px;margin:6px;background:{accent};color:#fff"
        return "".join(
            f'<div style="display:flex;justify-content:{rng.choice(("start", "end"))}">'
            f'<div style="{bubble}">{text(2, 14)}</div></div>'
            for _ in range(rng.randint(4, 12))
        )

    parts = [lambda: f"<h2>{text(3, 7)}</h2>", lambda: f"<p>{text(30, 110)}</p>", picture, cards, table, messages]
    body = "".join(rng.choice(parts)() for _ in range(40))
    bar = f"position:absolute;left:0;right:0;top:0;height:{BAR}px;background:{accent};color:#fff;line-height:{BAR}px"
    return (
        f'<meta charset="utf-8"><style>body{{background:{ground};color:{ink};font:{size}px "{family}",sans-serif;'
        f"margin:{BAR + 20}px {rng.randint(12, 120)}px;line-height:1.5}}h2{{color:{accent}}}</style>"
        f'<div dir="{"rtl" if script in ("arabic", "hebrew") else "ltr"}"><div style="{bar}">&emsp;{text(3, 6)}</div>'
        f"{body}</div>"
    )


def draw_page(source: str, size: tuple[int, int]) -> Image.Image:
    """What Chromium shows of a page in a window of this (width, height)."""
    with tempfile.TemporaryDirectory() as folder:
        file, shot = Path(folder) / "page.html", Path(folder) / "page.png"
        file.write_text(source, encoding="utf-8")
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={folder}/user",
        ]
        command = [
            "chromium",
            *options,
            f"--window-size={size[0]},{size[1]}",
            f"--screenshot={shot}",
            f"file://{file}",
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=900)
        with Image.open(shot) as picture:
            return picture.convert("RGB")


def record_page(index: int, pictures: list[Path], output: Path) -> None:
    """Stores one page, scrolled under its bar, in one or two goes."""
    rng = random.Random(f"page:{index}")
    size, rate = rng.choice(WINDOWS), rng.choice(RATES)
    if size == (1920, 1080):
        rate = min(rate, 30)
    tall = draw_page(page(rng, pictures), (size[0], PAGE_SCREENS * size[1]))
    bar = tall.crop((0, 0, size[0], BAR))
    begin, length, way = rng.uniform(0, 0.4), rng.uniform(0.3, 0.6), rng.uniform(0.1, 1.5) * size[1]

    def frames() -> Iterator[np.ndarray]:
        for time in np.linspace(0, 1, round(SECONDS * rate)):
            share = min(1.0, max(0.0, (time - begin) / length))
            top = round(way * (1 - math.cos(math.pi * share)) / 2)
            screen = tall.crop((0, top, size[0], top + size[1]))
            screen.paste(bar)
            yield np.asarray(screen)

    store(frames(), size, str(rate), output)
