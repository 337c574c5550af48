"""Storing rendered frames as a clip that is as good as what was rendered."""

import subprocess
from collections.abc import Iterable
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from lmmvqa.datasets_scripts.degraded.ffmpeg_process import COLOUR, TAG_COLOUR, TO_YUV420


# VMAF against the frames in 4:2:0 falls by less than half a point
ENCODER = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "8"]


def store(frames: Iterable[np.ndarray], size: tuple[int, int], rate: str, output: Path) -> None:
    """Encodes RGB frames, uint8 (height, width, 3), as they come; `size` is (width, height), `rate` frames a second.

    Raises:
        RuntimeError: FFmpeg failed; the message holds its last lines.
    """
    source = f"-f rawvideo -pix_fmt rgb24 -s {size[0]}x{size[1]} -r {rate} -i -".split()
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostats", "-loglevel", "error", "-y", *source]
    command += ["-vf", f"{TO_YUV420},{TAG_COLOUR}", *ENCODER, "-threads", "1", *COLOUR, "-bitexact", "-f", "matroska"]
    encoder = subprocess.Popen([*command, str(output)], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        for frame in frames:
            encoder.stdin.write(np.ascontiguousarray(frame).data)
    except BrokenPipeError:
        pass  # what it says below tells more
    _, messages = encoder.communicate()
    if encoder.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n" + messages.decode(errors="replace")[-2000:])
