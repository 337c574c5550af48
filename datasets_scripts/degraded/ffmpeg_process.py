"""FFmpeg as a process: encoding clips and measuring VMAF. A tool for building data, never linked or shipped."""

import errno
import os
import re
import subprocess
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np


# Every stored clip carries the same colour tags: a decoder that guesses by size would show a 540-line clip in one
# matrix and its reference in another.
COLOUR = ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"]
TO_YUV420 = "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p"
TAG_COLOUR = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv"
# Frames of two clips are matched by number: Matroska rounds time stamps to milliseconds.
BY_NUMBER = "settb=AVTB,setpts=N*40000"
NEAR_LOSSLESS = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "10"]


# What is wrong with the place that is written to, and so with every file
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


def check_installed() -> None:
    """
    Raises:
        ValueError: there is no FFmpeg to run.
    """
    if find_spec("imageio_ffmpeg") is None:
        raise ValueError(
            "got no imageio-ffmpeg, expected it to be installed, since FFmpeg degrades clips; pip install 'lmmvqa[data]'"
        )


def run_ffmpeg(arguments: Iterable[str], data: bytes | None = None) -> str:
    """Runs FFmpeg to its end, `data` on its standard input, and gives what it wrote to stderr.

    Raises:
        OSError: one of `DISK_ERRORS`.
        RuntimeError: FFmpeg failed otherwise; the message holds its last lines.
    """
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostats", "-y", *arguments]
    stdin = {"stdin": subprocess.DEVNULL} if data is None else {"input": data}
    done = subprocess.run(command, **stdin, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    messages = done.stderr.decode(errors="replace")
    if done.returncode:
        for number in DISK_ERRORS:
            if os.strerror(number) in messages:
                raise OSError(number, os.strerror(number), command[-1])
        raise RuntimeError(f"{' '.join(command)} failed:\n" + "\n".join(messages.splitlines()[-5:]))
    return messages


def encode(source: Iterable[str], output: Path, encoder: Iterable[str], data: bytes | None = None) -> None:
    """Encodes `source` (FFmpeg input arguments, with any filter) to a Matroska file that appears only when complete."""
    part = output.with_suffix(".part")
    part.unlink(missing_ok=True)  # FFmpeg of a builder that was killed may still be writing to it
    # one thread: the builder runs several processes, and the bitstream does not depend on the machine
    run_ffmpeg(
        [*source, "-an", "-sn", "-dn", *encoder, "-threads", "1", *COLOUR, "-bitexact", "-f", "matroska", str(part)],
        data,
    )
    part.replace(output)


def encode_frames(frames: np.ndarray, pixel_format: str, size: tuple[int, int], rate: str, output: Path) -> None:
    """Encodes raw frames near-losslessly; `size` is (width, height) in pixels, `rate` in frames per second."""
    source = f"-f rawvideo -pix_fmt {pixel_format} -s {size[0]}x{size[1]} -r {rate} -i -".split()
    matrix = TO_YUV420 if pixel_format == "rgb24" else TAG_COLOUR
    encode([*source, "-vf", f"{matrix},{TAG_COLOUR}"], output, NEAR_LOSSLESS, frames.tobytes())


def count_frames(path: Path) -> int:
    """Counts the frames a clip stores, without decoding it."""
    with av.open(str(path)) as container:
        return sum(packet.size > 0 for packet in container.demux(video=0))


def measure_vmaf(
    clip: Path, reference: Path, filters: str = "null", frames: int | None = None, subsample: int = 1
) -> float:
    """Mean VMAF (model v0.6.1) of a clip against its reference, 0-100.

    Args:
        filters: what the reference goes through first.
        frames: that the reference has after these; what it stores, where they are not given.
        subsample: one frame of so many is measured.

    Raises:
        ValueError: the two do not have the same number of frames.
    """
    got, expected = count_frames(clip), frames or count_frames(reference)
    if got != expected:
        raise ValueError(f"{clip} has {got} frames, its reference {expected}: VMAF needs the same, make it again.")
    graph = f"[0:v]{BY_NUMBER}[a];[1:v]{filters},{BY_NUMBER}[b];[a][b]libvmaf=n_threads=1:n_subsample={subsample}"
    return min(100.0, max(0.0, _measured([clip, reference], graph, r"VMAF score: (\S+)")))


def luma_change(clip: Path, filters: str) -> float:
    """Root of the mean squared difference, of 255, that filters make to a clip's luma, frame by frame."""
    return _luma_difference([clip], f"[0:v]split[x][b];[x]{filters}[a];[a]", "[b]")


def luma_difference(first: Path, second: Path) -> float:
    """Root of the mean squared difference, of 255, of two clips' luma, frame by frame."""
    return _luma_difference([first, second], "[0:v]", "[1:v]")


def _luma_difference(clips: list[Path], first: str, second: str) -> float:
    graph = f"{first}{BY_NUMBER}[c];{second}{BY_NUMBER}[d];[c][d]psnr"
    return 255 / 10 ** (_measured(clips, graph, r"PSNR y:(\S+)") / 20)


def _measured(clips: list[Path], graph: str, pattern: str) -> float:
    """The number that FFmpeg writes of clips, in one thread each, which go through a graph."""
    inputs = [word for clip in clips for word in ("-threads", "1", "-i", str(clip))]
    messages = run_ffmpeg([*inputs, "-filter_complex_threads", "1", "-lavfi", graph, "-f", "null", "-"])
    return float(re.search(pattern, messages)[1])
