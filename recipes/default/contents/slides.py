"""Slides of talks that LibreOffice draws -> contents."""

import html
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


SLIDES = 30


def plan(shared: Path) -> list[Content]:
    """Two slides of a talk, one after the other, each pair its own group."""
    require_programs(soffice="libreoffice-impress", pdftoppm="poppler-utils")
    pictures = clipart()
    return numbered(
        "slides",
        SLIDES,
        "slides",
        "slides of this recipe, drawn by libreoffice-impress (Debian), fonts-noto and openclipart-png",
        "own slides; fonts OFL-1.1, pictures CC0-1.0",
        record_slides,
        pictures,
        motion=0.0,
    )


def deck(rng: random.Random, pictures: list[Path]) -> str:
    """Two slides of a title, points and a picture, as a flat OpenDocument presentation."""
    script, colours = rng.choice(list(SCRIPTS)), [f"#{rng.randrange(1 << 24):06x}" for _ in range(2)]
    dark = rng.random() < 0.5
    ground, ink = ("#1b2030", "#f0f0f0") if dark else ("#ffffff", "#202020")

    def box(left: float, top: float, width: float, height: float, size: int, lines: list[str]) -> str:
        text = "".join(f'<text:p text:style-name="p{size}">{html.escape(line)}</text:p>' for line in lines)
        place = f'svg:x="{left}cm" svg:y="{top}cm" svg:width="{width}cm" svg:height="{height}cm"'
        return f'<draw:frame draw:style-name="plain" {place}><draw:text-box>{text}</draw:text-box></draw:frame>'

    def strip(colour: str, height: float) -> str:
        place = f'svg:x="0cm" svg:y="0cm" svg:width="28cm" svg:height="{height}cm"'
        return f'<draw:rect draw:style-name="s{colour[1:]}" {place}/>'

    def slide() -> str:
        points = ["\u2022 " + words(rng, script, rng.randint(2, 6)) for _ in range(rng.randint(3, 6))]
        image = (
            f'<draw:frame svg:x="18cm" svg:y="5cm" svg:width="8cm" svg:height="8cm"><draw:image xlink:type="simple" '
            f'xlink:href="file://{rng.choice(pictures)}"/></draw:frame>'
        )
        title = box(1, 0.5, 26, 2, 32, [words(rng, script, 3)])
        return f'<draw:page draw:master-page-name="m">{strip(ground, 15.75)}{strip(rng.choice(colours), 2.6)}{title}{box(1, 4, 16, 10, 20, points)}{image}</draw:page>'

    def graphic(name: str, fill: str) -> str:
        return (
            f'<style:style style:name="{name}" style:family="graphic"><style:graphic-properties {fill} '
            f'draw:stroke="none"/></style:style>'
        )

    paragraphs = "".join(
        f'<style:style style:name="p{size}" style:family="paragraph"><style:text-properties fo:font-size="{size}pt" '
        f'fo:color="{ink}" style:font-size-asian="{size}pt" style:font-size-complex="{size}pt"/></style:style>'
        for size in (20, 32)
    )
    graphics = graphic("plain", 'draw:fill="none"') + "".join(
        graphic(f"s{colour[1:]}", f'draw:fill="solid" draw:fill-color="{colour}"') for colour in (ground, *colours)
    )
    names = " ".join(
        f'xmlns:{short}="urn:oasis:names:tc:opendocument:xmlns:{long}:1.0"'
        for short, long in (
            ("office", "office"),
            ("style", "style"),
            ("text", "text"),
            ("draw", "drawing"),
            ("svg", "svg-compatible"),
            ("fo", "xsl-fo-compatible"),
            ("presentation", "presentation"),
        )
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><office:document {names} xmlns:xlink="http://www.w3.org/1999/xlink" '
        'office:version="1.2" office:mimetype="application/vnd.oasis.opendocument.presentation">'
        f"<office:automatic-styles>{graphics}{paragraphs}"
        '<style:page-layout style:name="l"><style:page-layout-properties fo:page-width="28cm" '
        'fo:page-height="15.75cm"/></style:page-layout></office:automatic-styles><office:master-styles>'
        '<style:master-page style:name="m" style:page-layout-name="l"/></office:master-styles>'
        f"<office:body><office:presentation>{slide()}{slide()}</office:presentation></office:body></office:document>"
    )


def record_slides(index: int, pictures: list[Path], output: Path) -> None:
    """Stores a slide that stays, and another that replaces it at once, from the right, or through a blend."""
    rng = random.Random(f"slides:{index}")
    size, rate = rng.choice(((1280, 720), (1920, 1080))), rng.choice((25, 30))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "deck.fodp"
        file.write_text(deck(rng, pictures), encoding="utf-8")
        office = ["soffice", "--headless", f"-env:UserInstallation=file://{folder}/user", "--convert-to", "pdf"]
        subprocess.run([*office, "--outdir", folder, str(file)], check=True, capture_output=True, timeout=900)
        reader = ["pdftoppm", "-png", "-scale-to-x", str(size[0]), "-scale-to-y", str(size[1])]
        subprocess.run([*reader, str(file.with_suffix(".pdf")), f"{folder}/slide"], check=True, timeout=900)
        first, second = (Image.open(shot).convert("RGB") for shot in sorted(Path(folder).glob("slide-*.png")))
    change, begin = rng.choice(("cut", "push", "blend")), rng.uniform(0.2, 0.6)

    def frames() -> Iterator[np.ndarray]:
        for time in np.linspace(0, 1, round(SECONDS * rate)):
            share = float(np.clip((time - begin) / (0.001 if change == "cut" else 0.3), 0, 1))
            if change == "blend":
                yield np.asarray(Image.blend(first, second, share))
                continue
            screen = first.copy()
            screen.paste(second, (round((1 - share) * size[0]), 0))
            yield np.asarray(screen)

    store(frames(), size, str(rate), output)
