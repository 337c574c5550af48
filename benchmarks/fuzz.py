"""Damaged files by the hundred: none may crash, hang or end a batch, and what is missing of one stands in its row.

    python benchmarks/fuzz.py --seed 1 2 3 --n 500 --clips ../shared/clips ../shared/edge --out FILE

Each of `--n` files a seed is a file of `--clips` with one mutation of `MUTATIONS`, drawn by seed and index alone, so that
`--seed S --only INDEX --keep FOLDER` writes the same file again. Sources are the files of at most `--max_bytes`. Workers
score file after file under limits, of wall time and of memory above what a loaded worker takes; one that dies is named
with its stack and replaced. The model is the embedded default on frames scaled to 128 and 32 pixels: what is tried is reading.

A file fails for one of these:

- `crash`: a signal ended the worker; `hang`: no row within `--seconds`.
- `batch death`: an exception came out of `score_videos`; `rows`: not exactly one row, or one with neither a finite score
  nor an error, or with both.
- `partial, unseen`: the row has no error, no `damaged_frames`, and no `expected_duration` that is longer than `duration`
  by at least half of what is missing, though FFmpeg itself marks frames as corrupt, cannot read or decode packets, gets no
  frame from over 1 % and over two packets more than in the source, or decodes over half a second less than MP4,
  Matroska, AVI or FLV announce.
- `frames dropped`: a row with a score has counted fewer frames than FFmpeg decodes in one thread.

Not failures, but noted, are files with a score of which over 1 % and over two of the source's frames are gone, and no
packet is left that would say so: `fewer frames, shown by fps`, where they are gone from the middle, so that the row's `fps`
is lower than the source's, and `fewer frames, unknowable`, where the file ends earlier, such as a transport stream cut at a
packet. `only in the log`: FFmpeg logs an error and all frames are there, none marked. `an error of scoring`: one that does not
begin with "Could not read", such as too little memory.
"""

import argparse
import contextlib
import faulthandler
import hashlib
import json
import math
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path

import av


GIB = 1 << 30
SUFFIXES = (
    [".mp4", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".flv", ".gif", ".y4m", ".264", ".m2v", ".ogv"]
    + [".png", ".jpg", ".webp", ".avif", ".tif", ".bmp", ".txt", ".wav", ".m3u8", ".sdp", ".ffconcat", ""]
)  # fmt: skip
# Of MP4, AVI and Matroska: where fields of headers lie
HEADER_NAMES = re.compile(
    rb"mvhd|tkhd|mdhd|hdlr|elst|stsd|stts|ctts|stss|stsc|stsz|stco|avc1|avcC|hvcC|av1C|moov|trak|mdat|moof|tfhd|tfdt|trun|"
    rb"avih|strh|strf|movi|idx1|\x1aE\xdf\xa3|\x15I\xa9f|\x16T\xaek|\x1fC\xb6u|\x1cS\xbbk|\xe0.\xb0|\xd7\x81"
)
EXTREMES = [b"\0" * 4, b"\0\0\0\1", b"\1\0\0\0", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\xff" * 4, b"\0\xff\xff\xff"]
# Codecs that packets are written of, by container
CODECS = {
    "matroska": {"h264", "hevc", "mpeg4", "mpeg2video", "vp8", "vp9", "av1", "ffv1", "mjpeg", "prores"},
    "mp4": {"h264", "hevc", "mpeg4", "vp9", "av1"},
    "mpegts": {"h264", "hevc", "mpeg4", "mpeg2video"},
    "avi": {"h264", "mpeg4", "mjpeg", "ffv1"},
}
# Containers, as FFmpeg names their readers, whose duration is written down, not guessed from the size
ANNOUNCING = {"mov", "matroska", "avi", "flv"}
SHORT_SECONDS = 0.5
# Sides of key frames and chunks: the least that the towers take
PIXELS = (128, 32)


# Mutations of bytes: (bytes, rng) to (bytes, what was done)


def _span(data: bytes, rng: random.Random, share: float = 0.5) -> tuple[int, int]:
    """Start and end of a part of any order of magnitude."""
    length = round(10 ** rng.uniform(0, math.log10(max(2, len(data) * share))))
    start = rng.randrange(max(1, len(data) - length))
    return start, start + length


def flip_bits(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    mutated = bytearray(data)
    count = round(10 ** rng.uniform(0, 3))
    for _ in range(count):
        mutated[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(mutated), f"{count} bits"


def flip_bits_of_header(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    size = min(len(data), 4096)
    start = rng.choice([0, len(data) - size])
    mutated = bytearray(data)
    count = rng.randint(1, 30)
    for _ in range(count):
        mutated[start + rng.randrange(size)] ^= 1 << rng.randrange(8)
    return bytes(mutated), f"{count} bits of {size} bytes at {start}"


def change_header_field(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    names = [match.start() for match in HEADER_NAMES.finditer(data)] or [rng.randrange(min(len(data), 1024))]
    at = max(0, rng.choice(names) + rng.randint(-4, 40))
    value = rng.choice([*EXTREMES, rng.randbytes(4)])
    return data[:at] + value + data[at + 4 :], f"{value.hex()} at {at}"


def zero_run(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    start, end = _span(data, rng)
    return data[:start] + bytes(end - start) + data[end:], f"{start} to {end}"


def noise_run(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    start, end = _span(data, rng)
    return data[:start] + rng.randbytes(end - start) + data[end:], f"{start} to {end}"


def truncate(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    size = round(len(data) * rng.uniform(0, 0.99))
    return data[:size], f"{size} of {len(data)} bytes"


def cut_head(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    _, size = _span(data, rng, share=0.9)
    return data[size:], f"{size} of {len(data)} bytes gone"


def cut_middle(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    start, end = _span(data, rng)
    return data[:start] + data[end:], f"{start} to {end}"


def repeat_block(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    start, end = _span(data, rng)
    return data[:end] + data[start:end] * rng.randint(1, 3) + data[end:], f"{start} to {end}"


def swap_blocks(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    a, b, c, d = sorted(rng.randrange(len(data) + 1) for _ in range(4))
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:], f"{a}-{b} and {c}-{d}"


def insert_noise(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    at, size = rng.randrange(len(data) + 1), rng.randint(1, 5000)
    return data[:at] + rng.randbytes(size) + data[at:], f"{size} bytes at {at}"


BYTE_MUTATIONS = [
    flip_bits,
    flip_bits_of_header,
    change_header_field,
    zero_run,
    noise_run,
    truncate,
    cut_head,
    cut_middle,
    repeat_block,
    swap_blocks,
    insert_noise,
]
FILE_MUTATIONS = ["wrong_suffix", "join_files", "join_streams"]


# Mutations of packets, in place: (packets, rng) to what was done


@dataclass
class Packet:
    """`time` of presentation and `decoding_time` are in ticks of the stream."""

    payload: bytes
    time: int
    decoding_time: int
    is_keyframe: bool


def drop_packets(packets: list[Packet], rng: random.Random) -> str:
    share = rng.uniform(0.01, 0.4)
    packets[:] = [packet for packet in packets if rng.random() > share] or packets[:1]
    return f"{len(packets)} left"


def drop_last_packets(packets: list[Packet], rng: random.Random) -> str:
    del packets[rng.randint(1, len(packets)) :]
    return f"{len(packets)} left"


def swap_payloads(packets: list[Packet], rng: random.Random) -> str:
    count = rng.randint(1, len(packets))
    for _ in range(count):
        one, other = rng.choice(packets), rng.choice(packets)
        one.payload, other.payload = other.payload, one.payload
    return f"{count} swaps"


def repeat_payloads(packets: list[Packet], rng: random.Random) -> str:
    count = rng.randint(1, len(packets))
    for _ in range(count):
        rng.choice(packets).payload = rng.choice(packets).payload
    return f"{count} packets hold what another holds"


def flip_bits_of_payloads(packets: list[Packet], rng: random.Random) -> str:
    chosen = rng.sample(packets, rng.randint(1, len(packets)))
    for packet in chosen:
        packet.payload, _ = flip_bits(packet.payload, rng)
    return f"{len(chosen)} packets"


def cut_payloads(packets: list[Packet], rng: random.Random) -> str:
    chosen = rng.sample(packets, rng.randint(1, len(packets)))
    for packet in chosen:
        packet.payload = packet.payload[: rng.randint(1, len(packet.payload))]
    return f"{len(chosen)} packets"


def shift_times(packets: list[Packet], rng: random.Random) -> str:
    at, kind = rng.randrange(len(packets)), rng.choice(["back", "to the start", "forward", "still"])
    time = packets[at].time
    step = rng.randint(1, 1 + abs(packets[-1].time - packets[0].time))
    shift = {"back": -step, "to the start": packets[0].time - time, "forward": 100 * step, "still": 0}[kind]
    for packet in packets[at:]:
        packet.time = max(0, time if kind == "still" else packet.time + shift)
    return f"{kind} from packet {at} on"


PACKET_MUTATIONS = [
    drop_packets,
    drop_last_packets,
    swap_payloads,
    repeat_payloads,
    flip_bits_of_payloads,
    cut_payloads,
    shift_times,
]


def read_packets(video: av.VideoStream) -> list[Packet]:
    packets = []
    for index, packet in enumerate(video.container.demux(video)):
        if packet.size:
            decoding_time = index if packet.dts is None else packet.dts
            time = decoding_time if packet.pts is None else packet.pts
            packets.append(Packet(bytes(packet), time, decoding_time, packet.is_keyframe))
    start = min(packet.time for packet in packets)
    for packet in packets:
        packet.time, packet.decoding_time = packet.time - start, packet.decoding_time - start
    return packets


def remux(
    source: Path,
    path: Path,
    container_format: str,
    mutation: Callable[[list[Packet], random.Random], str],
    rng: random.Random,
    **options: str,
) -> str:
    """Writes the packets of a video's stream, changed, into another container; returns what was done."""
    options["fflags"] = "+bitexact"  # Matroska's muxer draws an identifier without
    with (
        av.open(str(source), metadata_errors="replace") as read,
        av.open(str(path), "w", container_format, options) as written,
    ):
        video = read.streams.best("video")
        packets = read_packets(video)
        done = f"{mutation(packets, rng)}, in {container_format}"
        copied = written.add_stream_from_template(video)
        for index, packet in enumerate(packets):
            made = av.Packet(packet.payload)
            made.stream, made.time_base, made.is_keyframe = copied, video.time_base, packet.is_keyframe
            made.pts, made.dts = packet.time, packet.decoding_time
            if container_format == "matroska":
                # It stores no decoding times, but its muxer wants rising ones that lie before the others
                made.time_base = Fraction(1, 1_000_000)
                made.pts, made.dts = round(packet.time * video.time_base / made.time_base) + len(packets), index
            try:
                written.mux_one(made)
            except av.FFmpegError as error:  # what was written so far is a mutation too
                return f"{done}; the muxer stopped at packet {index}: {error.strerror}"
    return done


# Sources and what becomes of them


@dataclass
class Source:
    path: Path
    facts: dict  # of `decode`


@dataclass
class Mutated:
    seed: int
    index: int
    source: str
    mutation: str
    done: str
    sha256: str
    path: Path


def mutate(sources: list[Source], seed: int, index: int, folder: Path) -> tuple[Mutated, Source]:
    """Writes file `index` of `seed`: the same one from the same sources in the same order."""
    rng = random.Random(f"{seed} {index}")
    source = rng.choice(sources)
    formats = [name for name, codecs in CODECS.items() if source.facts["codec"] in codecs and source.facts["frames"]]
    mutations = [*BYTE_MUTATIONS, *FILE_MUTATIONS, *(PACKET_MUTATIONS if formats else [])]
    mutation = rng.choice(mutations)
    path = folder / f"seed{seed}_{index}{source.path.suffix}"
    if mutation in BYTE_MUTATIONS:
        data, done = mutation(source.path.read_bytes(), rng)
        path.write_bytes(data)
    elif mutation in PACKET_MUTATIONS:
        if mutation in (shift_times, flip_bits_of_payloads, cut_payloads):  # other muxers refuse what they write
            formats = ["matroska"]
        container_format = rng.choice(formats)
        done = remux(source.path, path, container_format, mutation, rng)
    elif mutation == "wrong_suffix":
        path = path.with_suffix(rng.choice(SUFFIXES))
        path.write_bytes(source.path.read_bytes())
        done = f"{source.path.suffix} to {path.suffix}"
    elif mutation == "join_files":
        other = rng.choice(sources)
        path.write_bytes(source.path.read_bytes() + other.path.read_bytes())
        done = f"with {other.path.name}"
    else:  # "join_streams": a transport stream may change its size, codec and clock on the way
        source, other = rng.choices([source for source in sources if source.facts["codec"] in CODECS["mpegts"]], k=2)
        parts = [path.with_suffix(suffix) for suffix in (".one", ".other")]
        another_program = {"mpegts_service_id": "2", "mpegts_pmt_start_pid": "4100", "mpegts_start_pid": "300"}
        remux(source.path, parts[0], "mpegts", lambda packets, rng: "", rng)
        remux(other.path, parts[1], "mpegts", lambda packets, rng: "", rng, **rng.choice([{}, another_program]))
        path = path.with_suffix(".ts")
        path.write_bytes(b"".join(part.read_bytes() for part in parts))
        for part in parts:
            part.unlink()
        done = f"with {other.path.name}"
    name = mutation if isinstance(mutation, str) else mutation.__name__
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Mutated(seed, index, source.path.name, name, done, digest, path), source


def sources_digest(paths: list[Path]) -> str:
    """Of the names and contents that the files of a seed are made of."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


# In the workers


def decode(path: str) -> dict:
    """What FFmpeg says of a file, apart from the code that is tried: one thread, every packet."""
    counts = dict.fromkeys(["packets", "frames", "corrupt", "packet_errors", "read_errors"], 0)
    facts = {"codec": None, **counts, "seconds": 0.0, "missing_seconds": 0.0}
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    with av.logging.Capture() as log:
        try:
            _decode(path, facts)
        except (av.FFmpegError, OSError, MemoryError) as error:
            facts["read_errors"] += 1
            facts["reason"] = repr(error)
    av.logging.set_level(level)
    return facts | {"log": [f"{name}: {message.strip()}" for _, name, message in log[:3]]}


def _decode(path: str, facts: dict) -> None:
    with av.open(f"file:{path}", metadata_errors="replace") as container:
        stream = container.streams.best("video")
        if stream is None or stream.codec_context is None:  # it has no video, or FFmpeg no decoder
            return
        facts["codec"] = stream.codec_context.name
        stream.thread_type = "NONE"
        starts, ends = [], []
        try:
            for packet in _packets(container, stream):
                facts["packets"] += packet.size > 0 and not packet.is_discard
                try:
                    frames = stream.decode(packet)
                except av.FFmpegError:
                    facts["packet_errors"] += 1
                    continue
                facts["frames"] += len(frames)
                facts["corrupt"] += sum(frame.is_corrupt for frame in frames)
                timed = [frame for frame in frames if frame.time is not None]
                starts += [frame.time for frame in timed]
                ends += [frame.time + float(frame.duration * frame.time_base) for frame in timed]
        finally:
            announced = stream.duration and float(stream.duration * stream.time_base)
            announced = announced or (container.duration or 0) / av.time_base
            if starts:
                mean_frame = (max(starts) - min(starts)) / max(1, len(starts) - 1)
                end = max(*ends, max(starts) + mean_frame)
                facts["seconds"] = end - min(starts)
                if ANNOUNCING & set(container.format.name.split(",")):
                    # Counted from time 0 or from the first frame on
                    facts["missing_seconds"] = announced - max(facts["seconds"], end)


def _packets(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.Packet]:
    with contextlib.suppress(IndexError):  # PyAV asks for the last frames of streams that it does not know: late ones
        for packet in container.demux(stream):
            if packet.size:
                yield packet
    last = av.Packet()
    last.stream, last.time_base = stream, stream.time_base
    yield last


def serve(pipe, memory: float, stacks: str) -> None:
    """Scores and decodes what is sent, until the process is ended."""
    import torch

    from lmmvqa.scoring.scorer import load_scorer, score_videos

    torch.set_num_threads(1)
    scorer = load_scorer(device="cpu")
    pixels = scorer.processor.video_processor
    pixels.key_frame_size, pixels.chunk_size = PIXELS

    def score(path: str) -> list[dict]:
        return list(score_videos(scorer, [path]))

    tasks = {"score": score, "decode": decode}
    with open("/proc/self/statm") as statm:
        size = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + round(memory * GIB),) * 2)
    with open(stacks, "w") as file, contextlib.suppress(EOFError):  # the other end is closed when all is done
        faulthandler.enable(file)
        pipe.send(None)
        while True:
            task, path = pipe.recv()
            try:
                answer = tasks[task](path)
            except Exception:
                answer = traceback.format_exc()
            pipe.send(answer)


class WorkerEndedError(Exception):
    """A worker ended on a file; the message says how and where."""


class Worker:
    """A process under limits that scores files, and is replaced when one ends it."""

    def __init__(self, seconds: float, memory: float, folder: Path):
        self._seconds, self._memory, self._folder = seconds, memory, folder
        self._process = None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other_end = context.Pipe()
        self._stacks = self._folder / f"stacks_{threading.get_ident()}"
        self._process = context.Process(target=serve, args=(other_end, self._memory, str(self._stacks)), daemon=True)
        self._process.start()
        other_end.close()
        self._pipe.recv()

    def ask(self, task: str, path: Path):
        """
        What "score" or "decode" gives for a file: rows, facts, or the traceback of what it raised.

        Raises:
            WorkerEndedError: it crashed or hung; the next call starts anew.
        """
        if self._process is None:
            self._start()
        self._pipe.send((task, str(path)))
        answered = self._pipe.poll(self._seconds)
        if not answered:
            os.kill(self._process.pid, signal.SIGABRT)  # faulthandler writes where it was
        try:
            return self._pipe.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            end = signal.Signals(-code).name if code < 0 else f"exit status {code}"
            self._process = None
            how = f"crash: {end}" if answered else "hang"
            raise WorkerEndedError(f"{how}\n{self._stacks.read_text()}") from None


def judge(row: dict, facts: dict, source_facts: dict) -> tuple[str | None, str | None]:
    """What failed and what is to be noted of a row, by what FFmpeg decodes of the file and of its source."""
    if row["error"] is not None:
        failure = "rows" if row["score"] is not None else None
        return failure, None if row["error"].startswith("Could not read ") else "an error of scoring"
    if row["score"] is None or not math.isfinite(row["score"]):
        return "rows", None
    if row.get("frames") is not None and row["frames"] < facts["frames"]:
        return "frames dropped", None
    few = max(2, source_facts["frames"] / 100)
    without_frame, without_frame_before = (of["packets"] - of["frames"] for of in (facts, source_facts))
    missing_seconds = facts["missing_seconds"] if facts["missing_seconds"] > SHORT_SECONDS else 0
    shown_seconds = (row.get("expected_duration") or 0) - (row.get("duration") or 0)
    if row.get("damaged_frames") or shown_seconds >= max(missing_seconds, SHORT_SECONDS) / 2:
        return None, "partial, seen"
    if missing_seconds or facts["corrupt"] or facts["packet_errors"] or facts["read_errors"]:
        return "partial, unseen", None
    if without_frame - without_frame_before > few:
        return "partial, unseen", None
    if source_facts["frames"] - facts["frames"] > few:
        rate, rate_before = (of["frames"] / max(of["seconds"], 1e-3) for of in (facts, source_facts))
        return None, "fewer frames, shown by fps" if rate < 0.99 * rate_before else "fewer frames, unknowable"
    return None, ("only in the log" if facts["log"] else None)


def try_one(sources: list[Source], seed: int, index: int, folder: Path, worker: Worker) -> dict:
    """Makes, scores and judges a file; returns all that was found."""
    mutated, source = mutate(sources, seed, index, folder)
    found = {name: value for name, value in vars(mutated).items() if name != "path"} | {"failure": None, "note": None}
    start = time.perf_counter()
    try:
        rows = worker.ask("score", mutated.path)
    except WorkerEndedError as error:
        failure, _, stacks = str(error).partition("\n")
        return found | {"failure": failure, "stacks": stacks}
    found["seconds"] = round(time.perf_counter() - start, 2)
    if isinstance(rows, str):
        return found | {"failure": "batch death", "traceback": rows}
    if len(rows) != 1:
        return found | {"failure": "rows", "rows": rows}
    try:
        facts = worker.ask("decode", mutated.path)
    except WorkerEndedError as error:
        return found | {"row": rows[0], "note": f"FFmpeg alone: {str(error).partition(chr(10))[0]}"}
    failure, note = judge(rows[0], facts, source.facts)
    return found | {"row": rows[0], "failure": failure, "note": note, "facts": facts, "source_facts": source.facts}


def reason(row: dict) -> str:
    """The error of a row without what differs from file to file."""
    text = row["error"].replace(row["video"], "FILE")
    return re.sub(r"\d+(\.\d+)?", "N", text)


def summary(found: list[dict]) -> dict:
    """How many files ended how."""
    rows = [one["row"] for one in found if "row" in one]
    slowest = sorted((one for one in found if "seconds" in one), key=lambda one: -one["seconds"])[:3]
    return {
        "files": len(found),
        "scored": sum(row["error"] is None for row in rows),
        "errors": sum(row["error"] is not None for row in rows),
        "failures": dict(Counter(one["failure"] for one in found if one["failure"]).most_common()),
        "notes": dict(Counter(one["note"] for one in found if one["note"]).most_common()),
        "reasons": dict(Counter(reason(row) for row in rows if row["error"] is not None).most_common()),
        "slowest": [[one["seconds"], f"seed {one['seed']}, index {one['index']}"] for one in slowest],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--n", type=int, default=500, help="files a seed (default: 500)")
    parser.add_argument("--only", type=int, nargs="+", metavar="INDEX", help="these files alone, all of them printed")
    parser.add_argument("--clips", type=Path, nargs="+", default=[Path("../shared/clips"), Path("../shared/edge")])
    parser.add_argument("--max_bytes", type=int, default=1 << 20, help="of a source (default: 1 MiB)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60, help="wall time a file (default: 60)")
    parser.add_argument("--memory", type=float, default=2, help="GiB a worker may take more than loaded (default: 2)")
    parser.add_argument("--keep", type=Path, help="folder for the files that fail, and all of --only")
    parser.add_argument("--out", type=Path, help="JSON file for the summary and the failures")
    arguments = parser.parse_args()
    paths = sorted(path for folder in arguments.clips for path in folder.iterdir() if path.is_file())
    paths = [path for path in paths if 0 < path.stat().st_size <= arguments.max_bytes]
    tasks = [(seed, index) for seed in arguments.seed for index in arguments.only or range(arguments.n)]
    start = time.perf_counter()
    local = threading.local()

    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(arguments.workers) as threads:
        folder = Path(temporary)

        def worker() -> Worker:
            if not hasattr(local, "worker"):
                local.worker = Worker(arguments.seconds, arguments.memory, folder)
            return local.worker

        def run(task: tuple[int, int]) -> dict:
            found = try_one(sources, *task, folder, worker())
            for path in folder.glob(f"seed{task[0]}_{task[1]}.*"):
                if arguments.keep and (found["failure"] or arguments.only):
                    arguments.keep.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, arguments.keep)
                path.unlink()
            if found["failure"] or arguments.only:
                print(json.dumps(found), file=sys.stderr, flush=True)
            return found

        sources = list(threads.map(lambda path: Source(path, worker().ask("decode", path)), paths))
        found = list(threads.map(run, tasks))
    report = {
        "command": " ".join(["python", *sys.argv]),
        "versions": {name: version(name) for name in ("av", "torch", "transformers")},
        "ffmpeg": av.ffmpeg_version_info,
        "model": f"embedded default, frames scaled to {PIXELS[0]} and {PIXELS[1]} pixels",
        "sources": {"files": len(sources), "sha256": sources_digest(paths)},
        "limits": {"seconds": arguments.seconds, "GiB": arguments.memory},
        "minutes": round((time.perf_counter() - start) / 60, 1),
        "mutations": dict(sorted(Counter(one["mutation"] for one in found).items())),
        "seeds": {seed: summary([one for one in found if one["seed"] == seed]) for seed in arguments.seed},
        "all": summary(found),
    }
    print(json.dumps(report, indent=1))
    if arguments.out:
        failures = [one for one in found if one["failure"] or one["note"] == "an error of scoring"]
        text = json.dumps(report | {"failures": failures}, indent=1).replace(f"{folder}{os.sep}", "")
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
