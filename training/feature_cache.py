"""Frozen towers see each video once: their features on disk, in place of decoding and encoding at every epoch."""

import hashlib
import json
import os
import random
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..datasets_scripts.rows import video_digest
from ..processing.processing_lmmvqa import LmmVqaProcessor
from ..processing.video_decoding_lmmvqa import CHUNK_RULE, DecodedVideo, EncodedVideo
from ..processing.video_processing_lmmvqa import FORMER_SETTINGS
from ..processing.video_reading_lmmvqa import VideoFacts
from .feature_shards import CHECKSUM, FeatureShards, SharedLog


# What `encode_key_frames` reads of the configuration
KEY_FRAME_OPTIONS = (
    "vision_feature_layer",
    "vision_feature_select_strategy",
    "spatial_projector_type",
    "spatial_grid_size",
    "key_frame_views",
)
NORMALISATION = ("do_rescale", "rescale_factor", "do_normalize")
KEY_FRAME_SETTINGS = ("key_frame_size", "key_frame_fragments", "image_mean", "image_std", *NORMALISATION)
CHUNK_SETTINGS = ("chunk_size", "chunk_frames", "chunk_fragments", "chunk_sampling")


class FeatureCache:
    """Features of frozen towers by the digest of the video, computed when first asked for.

    Key-frame features are always cached, so the vision tower must be frozen; the temporal tower's features are cached
    where it is frozen, and the decoded chunks where it is trained. Each kind lies in a folder named after all that it
    depends on and that its `settings.json` spells out: the tower's configuration and weights, the video processor's
    settings and the rule by which chunks are cut. Another tower finds another folder, so nothing stale is read and
    nothing is lost; a folder whose settings are not those of its name is refused.

    A video is known by its `video_digest`; what path, size and time of change had which digest is remembered, so that
    unchanged files are read no second time. Features are stored as float16, with a checksum: what was damaged on the
    disk is named in a warning and computed again. Several processes may fill and read one cache at the same time, see
    `FeatureShards`.

    Args:
        folder: where caches lie, side by side for different towers.
        model: a `LmmVqaForConditionalGeneration`.
        processor: its processor.

    Raises:
        ValueError: the vision tower is being trained, or a folder holds features of something else.
    """

    def __init__(self, folder: str | Path, model: torch.nn.Module, processor: LmmVqaProcessor):
        self.encoder, self.video_processor = model.model, processor.video_processor
        config, towers = model.config, self.encoder
        check_frozen(towers.vision_tower)
        key_frame_options = {name: getattr(config, name) for name in KEY_FRAME_OPTIONS}
        if config.spatial_projector_type == "mlp":  # which sees what "vit" sees
            key_frame_options["spatial_projector_type"] = "vit"
        names = (*KEY_FRAME_SETTINGS, *self._newer("key_frame_resize", "small_frames"))
        key_frame_settings = self._settings(*names) | key_frame_options | _identity(towers.vision_tower)
        chunk_settings = (*CHUNK_SETTINGS, *self._newer("small_frames"))
        kinds = {
            "seconds": ("seconds", self._settings(), np.int32),
            "facts": ("facts", self._settings(), np.uint8),  # as JSON
            "vision_features": ("vision", key_frame_settings, np.float16),
        }
        if config.use_temporal_tokens and _is_trained(towers.temporal_tower):
            settings = self._settings(*chunk_settings)
            kinds["clips"] = ("clips", settings, np.uint8)
            kinds |= {name: (name, settings, np.int32) for name in ("num_clips", "num_frames")}
        elif config.use_temporal_tokens:
            names = (*chunk_settings, "chunk_mean", "chunk_std", *NORMALISATION)
            settings = self._settings(*names) | _identity(towers.temporal_tower)
            kinds["temporal_features"] = ("temporal", settings, np.float16)

        folder = Path(folder)
        self.shards = {
            kind: FeatureShards(folder / f"{name}-{_digest(settings)}", settings, dtype)
            for kind, (name, settings, dtype) in kinds.items()
        }
        self._digest_log = SharedLog(folder, "digests")
        self._digests = {}  # (path, size, time of change) -> digest
        self._refresh()

    def _newer(self, *names: str) -> list[str]:
        """Those that are not as formerly: what was stored before there was a choice stays."""
        return [name for name in names if getattr(self.video_processor, name) != FORMER_SETTINGS[name]]

    def _settings(self, *names: str) -> dict:
        names = ("keep_incomplete_second", *names)
        return {"chunk_rule": CHUNK_RULE} | {name: getattr(self.video_processor, name) for name in names}

    def _refresh(self) -> None:
        for entry in self._digest_log.new_entries():
            self._digests[entry["path"], entry["size"], entry["mtime_ns"]] = entry["digest"]
        for shards in self.shards.values():
            shards.refresh()

    def _known_digest(self, video: str) -> str | None:
        stat = os.stat(video)
        return self._digests.get((os.path.abspath(video), stat.st_size, stat.st_mtime_ns))

    def digest(self, video: str) -> str:
        """As `video_digest`, remembered."""
        digest = self._known_digest(video)
        if digest is None:
            stat = os.stat(video)
            digest = video_digest(video)
            entry = {"path": os.path.abspath(video), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
            self._digests[tuple(entry.values())] = digest
            self._digest_log.append(entry | {"digest": digest})
        return digest

    def _has(self, digest: str | None) -> bool:
        return all(digest in shards for shards in self.shards.values())

    def build(self, videos: list[str]) -> int:
        """
        Computes what is missing, with a progress bar, and returns of how many videos something was computed here.

        Each process takes the videos in an order of its own and leaves out what others have done meanwhile, so that
        several of them share the work without waiting for one another. One that is stopped loses the video it was at.

        Raises:
            VideoDecodingError: a video of which no frame can be read; what was computed before is kept.
            ValueError: a feature that float16 cannot hold.
        """
        missing = [video for video in dict.fromkeys(videos) if not self._has(self._known_digest(video))]
        random.Random().shuffle(missing)  # not the global generator: training draws the same with and without a cache
        num_computed = 0
        for video in tqdm(missing, desc="features", disable=not missing, mininterval=5):
            self._refresh()
            digest = self.digest(video)
            if not self._has(digest):
                self._compute(video, digest)
                num_computed += 1
        return num_computed

    @torch.no_grad()
    def _compute(self, video: str, digest: str) -> None:
        missing = [kind for kind, shards in self.shards.items() if digest not in shards]

        def encode(decoded: DecodedVideo) -> dict[str, np.ndarray]:
            inputs = self.video_processor(decoded).to(self.encoder.device)
            arrays = {}
            for kind in missing:
                if kind == "vision_features":
                    arrays[kind] = _as_float16(self.encoder.encode_key_frames(inputs["pixel_values"]), video)
                elif kind == "temporal_features":
                    clips = (inputs.get(name) for name in ("pixel_values_videos", "num_clips", "num_frames"))
                    arrays[kind] = _as_float16(self.encoder.encode_chunks(*clips), video)
                elif kind == "facts":
                    arrays[kind] = np.frombuffer(json.dumps(asdict(decoded.facts)).encode(), np.uint8)
                else:
                    arrays[kind] = getattr(decoded, kind)
            return arrays

        portions = self.video_processor.decode_portions(video, encode)
        for kind in missing:
            # The last portion knows all that was seen
            of_video = portions[-1:] if kind == "facts" else portions
            self.shards[kind].add(digest, np.concatenate([arrays[kind] for arrays in of_video]))

    def _stored(self, digest: str | None) -> dict[str, np.ndarray] | None:
        """All kinds of a video's features; None where one is missing or damaged."""
        arrays = {kind: shards.get(digest) for kind, shards in self.shards.items()}
        return None if any(array is None for array in arrays.values()) else arrays

    def __getitem__(self, video: str) -> EncodedVideo:
        arrays = self._stored(self._known_digest(video))
        if arrays is None:
            self._refresh()
            digest = self.digest(video)
            arrays = self._stored(digest)
        if arrays is None:
            self._compute(video, digest)
            arrays = self._stored(digest)
        facts = VideoFacts(**json.loads(arrays.pop("facts").tobytes()))
        return EncodedVideo(
            facts=facts,
            **{
                kind: torch.from_numpy(array).float() if array.dtype == np.float16 else array
                for kind, array in arrays.items()
            },
        )


def check_frozen(vision_tower: torch.nn.Module) -> None:
    """
    Raises:
        ValueError: it is being trained, or adapters on it.
    """
    if _is_trained(vision_tower):
        raise ValueError("got a vision tower that is being trained, expected a frozen one; leave the cache out")


def _is_trained(tower: torch.nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in tower.parameters())


def _identity(tower: torch.nn.Module) -> dict[str, str]:
    """What a tower computes, as a digest of its configuration and weights, and in which precision."""
    digest = hashlib.sha256(tower.config.to_json_string().encode())
    for name, tensor in tower.state_dict().items():
        digest.update(name.encode() + tensor.float().cpu().numpy().tobytes())
    return {"tower": digest.hexdigest(), "tower_dtype": str(tower.dtype)}


def _digest(settings: dict) -> str:
    """What a folder is named after: also after the checksum, so that one from before there was any is not looked at."""
    return hashlib.sha256(json.dumps(settings | {"checksum": CHECKSUM}).encode()).hexdigest()[:16]


def _as_float16(features: torch.Tensor, video: str) -> np.ndarray:
    half = features.half()
    if not half.isfinite().all():
        raise ValueError(
            f"got features up to {features.abs().max():g} from {video}, expected numbers that float16 holds, at most "
            "65504; train without the feature cache"
        )
    return half.cpu().numpy()
