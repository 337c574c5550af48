"""Stand-ins for the paper's five data sets: their official layouts and label files, filled with other videos.

NO FIGURE MEASURED ON THEM IS ONE OF LSVQ, KoNViD-1k, YOUTUBE-UGC, LIVE-VQC OR LIVE-YT-GAMING. They show that the
commands work on folders and tables like those that researchers have on disk, traps included. The videos are slow pans
over rated photographs, whose MOS they are given, and two-second segments of clips, untouched and compressed: their
"MOS" is made up from the strength of the compression. No content is in two sets.
"""

import csv
import json
import random
import shutil
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import openpyxl
import scipy.io
from tqdm import tqdm

from lmmvqa.datasets_scripts.degraded.degraded_clips import CLIP_GROUPS, plan_segments
from lmmvqa.datasets_scripts.degraded.distortions import degrade
from lmmvqa.datasets_scripts.degraded.ffmpeg_process import run_ffmpeg
from lmmvqa.datasets_scripts.degraded.reference_clips import cut_segment, probe, render_pan
from lmmvqa.datasets_scripts.label_files import read_csv
from lmmvqa.datasets_scripts.rated_images import read_image_mos


SETS = ("lsvq", "konvid_1k", "youtube_ugc", "live_vqc", "live_yt_gaming")
# Of compressed segments by strength, 0 for untouched: made up
MADE_UP_MOS = {0: 88.0, 2: 66.0, 4: 38.0, 5: 18.0}
BROKEN = "exoplayer__invalid-bitstream.webm"  # it opens, and no frame of it decodes


@dataclass
class StandIn:
    """A video and the MOS (0-100) that label files will give it."""

    path: Path
    mos: float


def make_videos(shared: Path, work: Path, num_photographs: int, num_segments: int, seed: int) -> list[list[StandIn]]:
    """For each of `SETS` as many pans, and as many segments in four versions each; what is there is not made again."""
    rng = random.Random(seed)
    mos = read_image_mos(shared / "images" / "mos.csv", (0, 1))
    photographs = rng.sample(sorted(mos), len(mos))
    groups = {line["file"]: line["group"] for line in read_csv(CLIP_GROUPS)}
    segments, _ = plan_segments(shared / "clips", groups, seed)
    contents = {}
    for segment in segments:
        contents.setdefault(segment.group, []).append(segment)
    order = rng.sample(sorted(contents), len(contents))
    work.mkdir(parents=True, exist_ok=True)
    made = []
    for index, name in enumerate(tqdm(SETS, desc="sets")):
        videos = []
        while sum(video.path.stem.startswith("pan") for video in videos) < num_photographs:
            photograph = photographs.pop()
            path = work / f"pan-{Path(photograph).stem}.mkv"
            if not path.exists():
                try:
                    render_pan(shared / "images" / photograph, photograph, path)
                except ValueError:  # too small: another one
                    continue
            videos.append(StandIn(path, mos[photograph]))
        of_set = [segment for group in order[index :: len(SETS)] for segment in contents[group]][:num_segments]
        for segment in of_set:
            clean = work / f"{segment.name}-0.mkv"
            if not clean.exists():
                cut_segment(segment.source, probe(segment.source), segment.start, clean)
            for strength, value in MADE_UP_MOS.items():
                path = work / f"{segment.name}-{strength}.mkv"
                if not path.exists():
                    degrade(clean, "h264", strength, path.stem, path)
                videos.append(StandIn(path, value + rng.uniform(-6, 6)))
        made.append(rng.sample(videos, len(videos)))
        print(f"{name}: {len(videos)} videos", flush=True)
    return made


def put(video: StandIn, path: Path) -> None:
    """The video at its place in a data set, in the container that the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    run_ffmpeg(["-i", str(video.path), "-c", "copy", str(path)])


def on_scale(mos: float, low: float, high: float) -> float:
    return round(low + mos * (high - low) / 100, 4)


def write_lsvq(videos: list[StandIn], folder: Path) -> None:
    """Both CSV tables of the authors, quoted lists included; an upload in two batches, in train and in test; a name
    that ends in `.mp4`, and its file `.mp4.mp4`."""
    header = ["name", "p1", "p2", "p3", "height", "width", "mos_p1", "mos_p2", "mos_p3", "mos", "frame_number"]
    header += ["is_test", "is_valid"]
    num_test, num_1080p = len(videos) // 4, len(videos) // 5
    lines = []
    for index, video in enumerate(videos):
        name = f"{('yfcc', 'ia')[index % 2]}-batch{index % 5 + 1}/{1000 + index}"
        part = "test" if index < num_test else "1080p" if index < num_test + num_1080p else "train"
        if index == 0:
            name = "ia-batch1/two-cuts"
        elif index == len(videos) - 1:
            name = "ia-batch24/two-cuts"
        elif index == 1:
            name += ".mp4"
        put(video, folder / f"{name}.mp4")
        with av.open(str(video.path)) as container:
            stream = container.streams.video[0]
            size, frames = (stream.height, stream.width), round(2 * float(stream.average_rate or Fraction(25)))
        patch = str([0, size[1], 0, size[0], 0, frames])
        mos = [on_scale(video.mos, 0, 100)] * 4
        lines.append((part, [name, patch, patch, patch, *size, *mos, frames, part == "test", True]))
    with open(folder / "labels_train_test.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *(line for part, line in lines if part != "1080p")])
    with open(folder / "labels_test_1080p.csv", "w", newline="", encoding="utf-8") as file:
        without_is_test = [[*line[:-2], line[-1]] for part, line in lines if part == "1080p"]
        csv.writer(file).writerows([[*header[:-2], header[-1]], *without_is_test])


def write_konvid_1k(videos: list[StandIn], folder: Path, broken: Path) -> None:
    """`KoNViD_1k_mos.csv`, quoted; one file of the older name, one file missing, one that cannot be decoded."""
    lines = ['"flickr_id","mos"']
    for index, video in enumerate(videos):
        flickr_id = 3_339_962_845 + 97 * index
        lines.append(f'"{flickr_id}","{on_scale(video.mos, 1, 5):.10f}"')
        old = "_original_centercrop_960x540_8s" if index == 0 else ""
        put(video, folder / "KoNViD_1k_videos" / f"{flickr_id}{old}.mp4")
    shutil.copyfile(broken, folder / "KoNViD_1k_videos" / "111.mp4")
    lines += ['"111","3.0000000000"', '"222","2.0000000000"']
    (folder / "KoNViD_1k_mos.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_youtube_ugc(videos: list[StandIn], folder: Path) -> None:
    """The xlsx with empty chunk columns; encoded files, one original below its category, one not rated, one gone."""
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "MOS"
    sheet.append(["vid", "category", "MOS full", "MOS chunk00", "MOS chunk05", "MOS chunk10"])
    for index, video in enumerate(videos):
        category = ("Vlog", "Animation", "Gaming")[index % 3]
        vid = f"{category}_720P-{index:04x}"
        sheet.append([vid, category, on_scale(video.mos, 1, 5), on_scale(video.mos, 1, 5), None, None])
        original = folder / category / "720P" / f"{vid}.mkv"
        put(video, original if index == 0 else folder / f"{vid}_crf_10_ss_00_t_20.0.mp4")
    sheet.append(["Vlog_720P-dead", "Vlog", 3.5, None, None, None])
    sheet.append(["Vlog_720P-beef", "Vlog", None, None, None, None])
    book.save(folder / "original_videos_MOS_for_YouTube_UGC_dataset.xlsx")


def write_live_vqc(videos: list[StandIn], folder: Path) -> None:
    """`data.mat`: a cell of names and an array of MOS, both standing; videos in `Video/`."""
    names = [f"A{index + 1:03d}.mp4" for index in range(len(videos))]
    for name, video in zip(names, videos, strict=True):
        put(video, folder / "Video" / name)
    mos = np.array([[on_scale(video.mos, 0, 100)] for video in videos])
    scipy.io.savemat(folder / "data.mat", {"video_list": np.array([[name] for name in names], object), "mos": mos})


def write_live_yt_gaming(videos: list[StandIn], folder: Path) -> None:
    """A .mat of names without suffix, MOS lying; groups of videos of one game."""
    names = [f"{('AgeEmpires', 'Minecraft')[index % 2]}-{index // 2 + 1:03d}" for index in range(len(videos))]
    for name, video in zip(names, videos, strict=True):
        put(video, folder / f"{name}.mp4")
    mos = np.array([[on_scale(video.mos, 0, 100) for video in videos]])
    cell = np.array([[name] for name in names], object)
    scipy.io.savemat(folder / "LIVEYTGaming.mat", {"video_list": cell, "MOS": mos, "index": np.ones((5, len(names)))})


def build(shared: Path, work: Path, num_photographs: int = 10, num_segments: int = 4, seed: int = 0) -> None:
    """
    All five stand-ins in `work`/stand_ins.

    Args:
        shared: folder with `clips/`, `images/` and `edge/`.
        num_photographs, num_segments: pans and segments a set; each segment gives four videos.
    """
    folders = [work / "stand_ins" / name for name in SETS]
    finished = work / "stand_ins" / "finished.json"
    key = [num_photographs, num_segments, seed]
    if finished.exists() and json.loads(finished.read_text()) == key:
        return
    videos = make_videos(shared, work / "made", num_photographs, num_segments, seed)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    write_lsvq(videos[0], folders[0])
    write_konvid_1k(videos[1], folders[1], shared / "edge" / BROKEN)
    write_youtube_ugc(videos[2], folders[2])
    write_live_vqc(videos[3], folders[3])
    write_live_yt_gaming(videos[4], folders[4])
    finished.write_text(json.dumps(key))
