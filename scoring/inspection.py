"""What a model sees in one video and what it says of it: motion, key frames, scores with and without temporal tokens."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import av
import numpy as np
from PIL import Image
from skimage.registration import optical_flow_tvl1

from ..modeling_lmmvqa import VideoQualityAssessmentPipeline
from ..processing.answers_lmmvqa import QualityResult, mix_windows
from ..processing.frame_scaler_lmmvqa import FrameScaler, drop_unknown_colours
from ..processing.video_decoding_lmmvqa import EncodedVideo
from ..processing.video_reading_lmmvqa import read_frames


# Longest side in pixels of what the optical flow sees: a tenth of a second for a pair of frames
FLOW_SIZE = 160
# Evenly over a longer video; one of 8 seconds and 30 frames a second is measured whole
MAX_PAIRS = 240
# A model that was trained on photographs and on longer clips takes a single chunk for a photograph
SECTION_CHUNKS = 2
MAX_SECTIONS = 60
MAX_KEY_FRAMES = 8
KEY_FRAME_HEIGHT = 180


@dataclass
class Motion:
    """Optical flow between consecutive frames.

    Attributes:
        times: (pairs,) seconds from the first frame, of the later frame of each pair.
        speeds: (pairs,) mean length of the flow over the frame, in pixels of the video a second.
        is_complete: every pair of consecutive frames was measured.
    """

    times: np.ndarray
    speeds: np.ndarray
    is_complete: bool


@dataclass
class Reading:
    """What the model says, with temporal tokens or without.

    Attributes:
        result: of the whole video.
        values: (answers,) where the answers to the score question lie on the scale of the score; unless calibrated those
            of `LmmVqaProcessor.score_values`.
        probabilities: (answers,) of these answers.
        scores: (sections,) of each section of the video alone.
    """

    result: QualityResult
    values: np.ndarray
    probabilities: np.ndarray
    scores: np.ndarray


@dataclass
class Inspection:
    """Everything that the figure of one video shows.

    Attributes:
        video: its path.
        size: width and height in pixels.
        duration: seconds.
        num_frames: frames decoded.
        key_frames: {second: (height, width, 3) uint8}, some of the key frames, evenly spread.
        sections: (sections + 1,) borders in seconds of what is scored alone: two seconds or more.
        with_temporal_tokens: as the model was trained; None for a model that has no temporal tokens.
        without_temporal_tokens: the same weights and question, temporal tokens left out of the prompt; None for a model
            that cannot do without, see `inspect`.
        level_thresholds: scores from which a video is fair and good.
    """

    video: str
    size: tuple[int, int]
    duration: float
    num_frames: int
    motion: Motion
    key_frames: dict[int, np.ndarray]
    sections: np.ndarray
    with_temporal_tokens: Reading | None
    without_temporal_tokens: Reading | None
    level_thresholds: list[float]


def inspect(scorer: VideoQualityAssessmentPipeline, video: str) -> Inspection:
    """
    Scores a video as a whole and section by section, with temporal tokens and without, and measures its motion. The
    towers see the video once; it is decoded a second time for motion and key frames, frame by frame.

    "Without" is what `use_temporal_tokens=False` does to prompt and model (the preset `wo-temporal`), at the weights of a
    model that was trained *with* these tokens. It shows what they add to this score; how good a model is that never had
    them, only training one tells. A perceiver that temporal tokens pass through (`temporal_fusion="vision"`) has a
    fixed number of queries and is shown with them only.

    Raises:
        VideoDecodingError: a video of which no frame can be read.
        FileNotFoundError: no such file.
    """
    (encoded,) = scorer.preprocess(video)
    seconds = [int(second) for second in encoded.seconds]
    num_sections = max(1, min(len(seconds) // SECTION_CHUNKS, MAX_SECTIONS))
    borders = [len(seconds) * index // num_sections for index in range(num_sections + 1)]
    parts = [encoded.part(first, end) for first, end in pairwise(borders)]
    config = scorer.model.config
    with_tokens = without_tokens = None
    if config.use_temporal_tokens:
        with_tokens = _read(scorer, encoded, parts)
    if not (with_tokens and config.temporal_fusion == "vision" and config.spatial_projector_type == "perceiver"):
        with without_temporal_tokens(scorer):
            without_tokens = _read(scorer, encoded, parts)

    shown = {seconds[index] for index in np.linspace(0, len(seconds) - 1, MAX_KEY_FRAMES).round().astype(int)}
    least_step = (seconds[-1] + 1) / MAX_PAIRS
    return Inspection(
        video=video,
        **read_frames(video, lambda frames: _walk(frames, shown, least_step)),
        sections=np.array([*(seconds[first] for first in borders[:-1]), seconds[-1] + 1]),
        with_temporal_tokens=with_tokens,
        without_temporal_tokens=without_tokens,
        level_thresholds=scorer.processor.calibrated(list(scorer.processor.level_thresholds)),
    )


@contextlib.contextmanager
def without_temporal_tokens(scorer: VideoQualityAssessmentPipeline) -> Iterator[None]:
    """Prompts and model leave temporal tokens out, as with `use_temporal_tokens=False` in both configurations."""
    config, processor = scorer.model.config, scorer.processor
    before = config.use_temporal_tokens
    config.use_temporal_tokens = processor.use_temporal_tokens = False
    try:
        yield
    finally:
        config.use_temporal_tokens = processor.use_temporal_tokens = before


def _read(scorer: VideoQualityAssessmentPipeline, encoded: EncodedVideo, parts: list[EncodedVideo]) -> Reading:
    processor = scorer.processor
    ((windows, (scores, *damages), facts),) = scorer.forward([encoded])
    result = processor.post_process_window_scores(windows, scores, facts, *damages)
    probabilities = mix_windows(windows, scores).double().cpu().exp().numpy()
    answers = np.array([*processor.score_values.values()])
    return Reading(
        result,
        result.score + processor.score_std_scale * (answers - probabilities @ answers),
        probabilities,
        np.array(
            [
                processor.post_process_window_scores(of_part, scores_of_part).score
                for of_part, (scores_of_part, *_), _ in scorer.forward(parts)
            ]
        ),
    )


def _walk(frames: Iterator[tuple[float, float, av.VideoFrame]], shown: set[int], least_step: float) -> dict:
    """What there is to see in the frames themselves; of them, two small ones are in memory at a time."""
    key_frames, times, speeds, to_rgb = {}, [], [], FrameScaler(None)
    previous, previous_time, end, is_complete = None, 0.0, 0.0, True
    for index, (time, duration, frame) in enumerate(frames):
        if index == 0:
            size = frame.width, frame.height
            scale = min(1.0, FLOW_SIZE / max(size))
            small_size = [max(2, round(side * scale)) for side in size]
        end = max(end, time + duration)
        second = math.floor(time + 1e-6)
        if second in shown and second not in key_frames:
            key_frames[second] = _reduced(to_rgb(frame))
        drop_unknown_colours(frame)
        small = frame.reformat(*small_size, format="gray").to_ndarray()
        if previous is not None:
            if times and time - times[-1] < least_step - 1e-6:
                is_complete = False
            else:
                times.append(time)
                speeds.append(_mean_flow(previous, small) / scale / (time - previous_time))
        previous, previous_time = small, time
    return {
        "size": size,
        "duration": end,
        "num_frames": index + 1,
        "motion": Motion(np.array(times), np.array(speeds), is_complete),
        "key_frames": key_frames,
    }


def _mean_flow(previous: np.ndarray, frame: np.ndarray) -> float:
    """Mean length in pixels of the optical flow (TV-L1, [Zach et al., 2007](https://doi.org/10.1007/978-3-540-74936-3_22))."""
    if np.array_equal(previous, frame):
        return 0.0  # as the flow of equal frames is, without computing it
    previous, frame = previous / np.float32(255), frame / np.float32(255)
    return float(np.hypot(*optical_flow_tvl1(previous, frame)).mean())


def _reduced(picture: np.ndarray) -> np.ndarray:  # (height, width, 3) uint8
    height, width = picture.shape[:2]
    scale = min(1.0, KEY_FRAME_HEIGHT / height)
    return np.asarray(Image.fromarray(picture).resize((max(1, round(width * scale)), round(height * scale))))
