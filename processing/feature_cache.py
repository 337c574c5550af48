"""Frozen towers see each video once: their features on disk, in place of decoding and encoding at every epoch."""

import hashlib
import json
import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from .processing_lmmvqa import LmmVqaProcessor
from .video_decoding_lmmvqa import EncodedVideo


# What `encode_key_frames` reads of the configuration
KEY_FRAME_OPTIONS = (
    "vision_feature_layer",
    "vision_feature_select_strategy",
    "spatial_projector_type",
    "spatial_grid_size",
)


class FeatureCache:
    """Features of frozen towers, one file a video, computed when first asked for.

    Key-frame features are always cached, so the vision tower must be frozen; the temporal tower's features are cached
    where it is frozen, and the decoded chunks where it is trained. Files lie in a folder named after everything they
    depend on: the towers' configurations and weights and the video processor's settings. A video is known by its path,
    size and time of change. Features are stored as float16.

    Args:
        folder: where caches lie, side by side for different towers.
        model: a `LmmVqaForConditionalGeneration`.
        processor: its processor.

    Raises:
        ValueError: the vision tower is being trained.
    """

    def __init__(self, folder: str | Path, model: torch.nn.Module, processor: LmmVqaProcessor):
        self.encoder, self.video_processor = model.model, processor.video_processor
        if _is_trained(self.encoder.vision_tower):
            raise ValueError("got a vision tower that is being trained, expected a frozen one; leave the cache out")
        self.use_temporal = model.config.use_temporal_tokens
        self.cache_chunks = self.use_temporal and _is_trained(self.encoder.temporal_tower)
        key = hashlib.sha256(json.dumps(self.video_processor.to_dict(), sort_keys=True).encode())
        key.update(json.dumps([getattr(model.config, name) for name in KEY_FRAME_OPTIONS]).encode())
        _add_tower(key, self.encoder.vision_tower)
        if self.use_temporal and not self.cache_chunks:
            _add_tower(key, self.encoder.temporal_tower)
        kind = "chunks" if self.cache_chunks else "features"
        self.folder = Path(folder) / f"{kind}-{key.hexdigest()[:16]}"
        self.folder.mkdir(parents=True, exist_ok=True)

    def _file(self, video: str) -> Path:
        stat = os.stat(video)
        digest = hashlib.sha256(f"{os.path.abspath(video)}:{stat.st_size}:{stat.st_mtime_ns}".encode()).hexdigest()
        return self.folder / f"{digest[:32]}.safetensors"

    def build(self, videos: list[str]) -> None:
        """Computes what is missing, with a progress bar."""
        missing = [video for video in dict.fromkeys(videos) if not self._file(video).exists()]
        for video in tqdm(missing, desc="features", disable=not missing, mininterval=5):
            self._compute(video)

    @torch.no_grad()
    def _compute(self, video: str) -> None:
        decoded = self.video_processor.decode(video)[0]
        inputs = self.video_processor(decoded)
        tensors = {"vision_features": self.encoder.encode_key_frames(inputs["pixel_values"]).half()}
        if self.cache_chunks:
            tensors["chunks"] = torch.from_numpy(decoded.chunks)
        elif self.use_temporal:
            tensors["temporal_features"] = self.encoder.encode_chunks(inputs["pixel_values_videos"]).half()
        file = self._file(video)
        partial = file.with_suffix(f".{os.getpid()}.partial")
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)
        partial.replace(file)  # atomic: an interrupted run leaves no half file behind

    def __getitem__(self, video: str) -> EncodedVideo:
        file = self._file(video)
        if not file.exists():
            self._compute(video)
        tensors = load_file(file)
        chunks = tensors["chunks"].numpy() if "chunks" in tensors else None
        return EncodedVideo(
            tensors["vision_features"].float(),
            tensors["temporal_features"].float() if "temporal_features" in tensors else None,
            chunks,
        )


def _is_trained(tower: torch.nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in tower.parameters())


def _add_tower(key, tower: torch.nn.Module) -> None:
    key.update(tower.config.to_json_string().encode())
    for name, tensor in tower.state_dict().items():
        key.update(name.encode())
        key.update(tensor.float().cpu().numpy().tobytes())
