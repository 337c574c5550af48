"""Random words in several scripts: quality has nothing to do with what a text says."""

import random


# first and last letter of runs that make up words, and the mean length of a word
SCRIPTS = {
    "latin": ("az", 6),
    "cyrillic": ("\u0430\u044f", 7),
    "greek": ("\u03b1\u03c9", 7),
    "arabic": ("\u0627\u064a", 5),
    "hebrew": ("\u05d0\u05ea", 5),
    "devanagari": ("\u0915\u0939", 5),
    "thai": ("\u0e01\u0e2e", 8),
    "han": ("\u4e00\u9fa5", 12),
    "kana": ("\u3041\u3093", 10),
    "hangul": ("\uac00\ud7a3", 4),
}


def words(rng: random.Random, script: str, count: int) -> str:
    (first, last), length = SCRIPTS[script]
    letters = range(ord(first), ord(last) + 1)
    return " ".join(
        "".join(chr(rng.choice(letters)) for _ in range(max(1, round(rng.gauss(length, length / 3)))))
        for _ in range(count)
    )
