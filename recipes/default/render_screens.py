"""Screen recordings: code, articles, slides and desktops, contents that real clips and photographs hardly have.

Words, colours and layouts are drawn at random. `contents/rendered_screens.py` stores them.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont


RATES = (25, 30)
SIZES = ((1280, 720), (1280, 800), (1440, 900), (1024, 768))  # (width, height)
FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
CODE_FONTS = ("DejaVuSansMono", "DejaVuSansMono-Bold")
TEXT_FONTS = ("DejaVuSans", "DejaVuSerif", "STIXGeneral")
BOLD_FONTS = ("DejaVuSans-Bold", "DejaVuSerif-Bold", "STIXGeneralBol")
LETTERS = "eeeeeeetttttaaaaaooooiiiinnnnsssshhhhrrrrddlllcuummwfgypbvk"  # about as often as in English
BAR_HEIGHT = 36

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Layer:
    """A picture that moves from one (x, y) to another while time goes from `begin` to `finish`, in shares of the clip."""

    picture: Image.Image
    start: tuple[int, int]
    end: tuple[int, int]
    begin: float = 0.0
    finish: float = 1.0

    def position(self, time: float) -> tuple[int, int]:
        """Whole pixels, as a screen scrolls."""
        share = min(1.0, max(0.0, (time - self.begin) / (self.finish - self.begin)))
        return tuple(round(a + share * (b - a)) for a, b in zip(self.start, self.end, strict=True))


@cache
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(FONTS / f"{name}.ttf", size)


def word(rng: random.Random) -> str:
    return "".join(rng.choices(LETTERS, k=rng.randint(1, 10)))


def theme(rng: random.Random, dark: bool) -> tuple[Colour, list[Colour]]:
    """A colour for the ground, and some that can be read on it."""
    ground, inks = ((15, 50), (150, 255)) if dark else ((225, 255), (0, 120))
    colours = [tuple(rng.randint(*inks) for _ in range(3)) for _ in range(6)]
    return (rng.randint(*ground),) * 3, colours


def draw_code(rng: random.Random, width: int, height: int) -> Image.Image:
    """Lines of coloured tokens with indents and line numbers."""
    ground, inks = theme(rng, dark=rng.random() < 0.7)
    page = Image.new("RGB", (width, height), ground)
    draw, size, indent = ImageDraw.Draw(page), rng.randint(13, 26), 0
    face = font(rng.choice(CODE_FONTS), size)
    for number, top in enumerate(range(8, height, round(1.35 * size)), rng.randint(1, 900)):
        draw.text((8, top), f"{number:4d}", (128,) * 3, face)
        indent = min(6, max(0, indent + rng.choice((-1, 0, 0, 0, 1))))
        left = 8 + round(size * (3.6 + 2.4 * indent))
        for _ in range(rng.choice((0, 2, 4, 5, 6, 8))):
            token = word(rng) + rng.choice(("", " ", "(", ")", " = ", ": ", ".", ", ", "[0]", " + ", "_", '"'))
            draw.text((left, top), token, rng.choice(inks), face)
            left += round(face.getlength(token))
    return page


def draw_chart(rng: random.Random, draw: ImageDraw.ImageDraw, box: tuple[int, ...], inks: list[Colour]) -> None:
    """Bars or a line over two axes."""
    left, top, right, bottom = box
    values = [rng.uniform(0.05, 1) for _ in range(rng.randint(4, 14))]
    step = (right - left) / len(values)
    points = [(left + (k + 0.5) * step, bottom - value * (bottom - top)) for k, value in enumerate(values)]
    if rng.random() < 0.5:
        draw.line(points, inks[0], width=rng.randint(1, 4))
    else:
        for x, y in points:
            draw.rectangle((x - 0.35 * step, y, x + 0.35 * step, bottom), inks[1])
    draw.line(((left, top), (left, bottom), (right, bottom)), inks[2], width=2)


def draw_article(rng: random.Random, width: int, height: int) -> Image.Image:
    """Headings, paragraphs and charts between margins."""
    ground, inks = theme(rng, dark=rng.random() < 0.25)
    page = Image.new("RGB", (width, height), ground)
    draw, size, style = ImageDraw.Draw(page), rng.randint(14, 28), rng.randrange(len(TEXT_FONTS))
    face, heading = font(TEXT_FONTS[style], size), font(BOLD_FONTS[style], round(1.7 * size))
    margin, top = rng.randint(20, max(21, width // 5)), 16
    while top < height:
        part = rng.random()
        if part < 0.2:
            draw.text((margin, top), " ".join(word(rng) for _ in range(4)).title(), inks[0], heading)
            top += 3 * size
        elif part < 0.35:
            draw_chart(rng, draw, (margin, top, width - margin, top + 9 * size), inks)
            top += 10 * size
        else:
            for _ in range(rng.randint(2, 8)):
                line = ""
                while face.getlength(line) < width - 2 * margin - 4 * size:
                    line += word(rng) + rng.choice((" ", " ", " ", ", ", ". "))
                draw.text((margin, top), line, inks[1], face)
                top += round(1.4 * size)
            top += size
    return page


def draw_slide(rng: random.Random, width: int, height: int) -> Image.Image:
    """A title, points and a chart."""
    ground, inks = theme(rng, dark=rng.random() < 0.5)
    ground = tuple(min(255, max(0, level + rng.randint(-30, 30))) for level in ground)
    page = Image.new("RGB", (width, height), ground)
    draw, size, style = ImageDraw.Draw(page), max(10, height // rng.randint(18, 30)), rng.randrange(len(TEXT_FONTS))
    margin = width // 14
    title = " ".join(word(rng) for _ in range(3)).title()
    draw.text((margin, margin), title, inks[0], font(BOLD_FONTS[style], 2 * size))
    for k in range(rng.randint(3, 6)):
        point = "\u2022 " + " ".join(word(rng) for _ in range(rng.randint(2, 5)))
        draw.text((margin, margin + size * (4 + 2 * k)), point, inks[1], font(TEXT_FONTS[style], size))
    draw_chart(rng, draw, (width * 3 // 5, height // 3, width - margin, height - margin), inks)
    return page


def draw_bar(rng: random.Random, width: int) -> Image.Image:
    ground, inks = theme(rng, dark=rng.random() < 0.5)
    bar = Image.new("RGB", (width, BAR_HEIGHT), ground)
    draw = ImageDraw.Draw(bar)
    for left in range(10, width - 90, 110)[: rng.randint(2, 9)]:
        draw.rounded_rectangle((left, 5, left + 92, BAR_HEIGHT - 6), 6, outline=inks[0])
        draw.text((left + 8, 8), word(rng)[:8].title(), inks[1], font("DejaVuSans", 14))
    return bar


def scrolling(draw: Callable) -> Callable:
    """A page under a bar of buttons, scrolled for a part of the time, or still while a line is written."""

    def screen(rng: random.Random, width: int, height: int) -> list[Layer]:
        page, begin = draw(rng, width, 2 * height), rng.uniform(0, 0.4)
        bar = Layer(draw_bar(rng, width), (0, 0), (0, 0))
        if rng.random() < 0.7:
            up = rng.randint(20, height - BAR_HEIGHT)
            return [Layer(page, (0, BAR_HEIGHT), (0, BAR_HEIGHT - up), begin, begin + rng.uniform(0.2, 0.6)), bar]
        top = rng.randint(2 * BAR_HEIGHT, height - 60)
        cover = Image.new("RGB", (width, 30), page.getpixel((0, 0)))
        return [Layer(page, (0, BAR_HEIGHT), (0, BAR_HEIGHT)), Layer(cover, (60, top), (width, top), begin), bar]

    return screen


def slides(rng: random.Random, width: int, height: int) -> list[Layer]:
    """A slide that another replaces, at once or from the right."""
    first, second = draw_slide(rng, width, height), draw_slide(rng, width, height)
    begin = rng.uniform(0.2, 0.7)
    return [Layer(first, (0, 0), (0, 0)), Layer(second, (width, 0), (0, 0), begin, begin + rng.choice((0.001, 0.25)))]


def desktop(rng: random.Random, width: int, height: int) -> list[Layer]:
    """Windows over a ground of two colours; the last window moves."""
    corners = np.array([[rng.choices(range(256), k=3) for _ in range(2)] for _ in range(2)], np.uint8)
    ground = Image.fromarray(corners).resize((width, height), Image.Resampling.BILINEAR)
    layers = [Layer(ground, (0, 0), (0, 0))]
    for _ in range(rng.randint(2, 4)):
        size = rng.randint(width // 3, width * 2 // 3), rng.randint(height // 3, height * 2 // 3)
        window = rng.choice((draw_code, draw_article, draw_slide))(rng, *size)
        window.paste(draw_bar(rng, size[0]))
        places = [(rng.randint(0, width - size[0]), rng.randint(0, height - size[1])) for _ in range(2)]
        layers.append(Layer(window, places[0], places[0]))
    return [*layers[:-1], Layer(window, *places, rng.uniform(0, 0.3), rng.uniform(0.6, 1))]


SCREENS = (scrolling(draw_code), scrolling(draw_article), slides, desktop)


def paste_layers(layers: list[Layer], size: tuple[int, int], time: float) -> Image.Image:
    """The screen of this (width, height) at a time in shares of the clip, the last layer on top."""
    screen = Image.new("RGB", size)
    for layer in layers:
        screen.paste(layer.picture, layer.position(time))
    return screen
