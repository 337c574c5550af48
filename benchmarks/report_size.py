"""How large the page of `lmmvqa score --report` is, and how long its pictures take: simulated scores, pictures of real clips.

`python benchmarks/report_size.py --clips ../shared/clips_real --out FILE`

Each clip gives pictures of several moments. A thousand videos with random scores, windows of two seconds, problems and
damage then share them; browsers and this page do not know that pictures are equal. The last set has more videos than the
page shows with pictures.
"""

import argparse
import json
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from lmmvqa.processing.answers_lmmvqa import DAMAGE_ANSWERS, LEVELS
from lmmvqa.processing.reading_limits_lmmvqa import ReadingLimits
from lmmvqa.scoring.report import FACT_KEYS, ROW_KEYS
from lmmvqa.scoring.score_report import PICTURE_SIZE, picture_moments, score_page
from lmmvqa.scoring.thumbnails import VideoPictures, video_pictures
from lmmvqa.scoring.video_files import find_videos


MOMENTS = (0.3, 0.9, 1.5)
THRESHOLDS = (40.0, 60.0)
# Videos, and seconds of each
SETS = ((50, 8), (1000, 8), (1000, 600), (5000, 8))


def simulated_row(index: int, seconds: int, rng: np.random.Generator) -> dict:
    def answer(score: float) -> dict:
        level = LEVELS[sum(score >= threshold for threshold in THRESHOLDS)]
        damage = dict(zip(DAMAGE_ANSWERS, rng.dirichlet(np.full(len(DAMAGE_ANSWERS), 0.3)).tolist(), strict=True))
        masses = dict(zip(LEVELS, rng.dirichlet(np.ones(3)).tolist(), strict=True))
        return {
            "score": score,
            "score_std": float(rng.uniform(5, 20)),
            "level": level,
            "level_probabilities": masses,
            "answer": f"{score:.0f}",
            "damage": damage,
        }

    scores = np.clip(rng.normal(rng.uniform(20, 95), 12, seconds // 2), 0, 100)
    windows = [answer(score) | {"start": 2 * at, "end": 2 * at + 2} for at, score in enumerate(scores.tolist())]
    worst = min(windows, key=lambda window: window["score"])
    starts = rng.uniform(0, seconds - 1, rng.integers(0, 4))
    kinds = rng.choice(["freeze", "black", "blocking", "blur"], len(starts)).tolist()
    problems = [
        {"kind": kind, "start": start, "end": start + 0.8, "strength": 0.8}
        for kind, start in zip(kinds, sorted(starts.tolist()), strict=True)
    ]
    facts = [float(seconds), float(seconds), 30 * seconds, 0, 0, 1920, 1080, 30.0, None, problems]
    row = dict.fromkeys(ROW_KEYS) | {"video": f"camera/2026-11-{index % 30 + 1:02}/recording_{index:05}.mp4"}
    row |= answer(float(scores.mean())) | dict(zip(FACT_KEYS, facts, strict=True)) | {"outside": [], "seconds": 1.0}
    return row | {"percentile_5": worst["score"], "worst_window": worst, "windows": windows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", nargs="+", required=True)
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()

    clips = find_videos(arguments.clips).videos
    started = time.process_time()
    of_clips = [video_pictures(clip, MOMENTS, PICTURE_SIZE, ReadingLimits()) for clip in clips]
    seconds = time.process_time() - started
    thumbnails = [thumbnail for pictures in of_clips for thumbnail in pictures.thumbnails]
    rng = np.random.default_rng(0)
    results = []
    for number, length in SETS:
        rows = [simulated_row(index, length, rng) for index in range(number)]
        pictures = {
            video: VideoPictures([thumbnails[place] for place in rng.integers(0, len(thumbnails), len(moments))])
            for video, moments in picture_moments(rows).items()
        }
        page = score_page(rows, pictures, "report.html", [0, 100], THRESHOLDS, "default")
        num_pictures = sum(len(of_video.thumbnails) for of_video in pictures.values())
        size = len(page.encode("utf-8"))
        results.append({"videos": number, "seconds_of_each": length, "pictures": num_pictures, "bytes": size})
        print(results[-1])
    found = {
        "command": f"python benchmarks/report_size.py --clips {' '.join(arguments.clips)} --out {arguments.out}",
        "versions": {name: version(name) for name in ("lmmvqa", "av", "pillow", "jinja2")},
        "clips": len(clips),
        "processor_seconds_a_clip": round(seconds / len(clips), 3),
        "mean_bytes_of_a_picture": round(np.mean([len(thumbnail.source) for thumbnail in thumbnails])),
        "pages": results,
    }
    Path(arguments.out).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
