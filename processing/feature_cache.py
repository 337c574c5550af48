"""Frozen towers see each video once: their features on disk, in place of decoding and encoding at every epoch."""

import hashlib
import json
import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm
from transformers.image_processing_utils import BatchFeature

from .processing_lmmvqa import LmmVqaProcessor
from .video_decoding_lmmvqa import DecodedVideo, EncodedVideo


# What `encode_key_frames` reads of the configuration
KEY_FRAME_OPTIONS = (
    "vision_feature_layer",
    "vision_feature_select_strategy",
    "spatial_projector_type",
    "spatial_grid_size",
)


class FeatureCache:
    """Features of frozen towers, one file a video and tower, computed when first asked for.

    Key-frame features are always cached, so the vision tower must be frozen; the temporal tower's features are cached
    where it is frozen, and the decoded chunks where it is trained. Each kind lies in a folder named after all that it
    depends on: the tower's configuration and weights and the video processor's settings. A video is known by its path,
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
        settings = self.video_processor
        if _is_trained(self.encoder.vision_tower):
            raise ValueError("got a vision tower that is being trained, expected a frozen one; leave the cache out")
        config = model.config
        key_frame_settings = [
            settings.key_frame_size,
            settings.key_frame_fragments,
            settings.image_mean,
            settings.image_std,
        ]
        layout = [getattr(config, name) for name in KEY_FRAME_OPTIONS]
        vision_key = _digest(key_frame_settings + layout, self.encoder.vision_tower)
        self.folders = {"vision_features": Path(folder) / f"vision-{vision_key}"}
        chunk_settings = [settings.chunk_size, settings.chunk_frames, settings.chunk_fragments]
        if config.use_temporal_tokens and _is_trained(self.encoder.temporal_tower):
            self.folders["chunks"] = Path(folder) / f"chunks-{_digest(chunk_settings)}"
        elif config.use_temporal_tokens:
            chunk_settings += [settings.chunk_mean, settings.chunk_std]
            temporal_key = _digest(chunk_settings, self.encoder.temporal_tower)
            self.folders["temporal_features"] = Path(folder) / f"temporal-{temporal_key}"
        for path in self.folders.values():
            path.mkdir(parents=True, exist_ok=True)

    def _files(self, video: str) -> dict[str, Path]:
        stat = os.stat(video)
        digest = hashlib.sha256(f"{os.path.abspath(video)}:{stat.st_size}:{stat.st_mtime_ns}".encode()).hexdigest()
        return {name: folder / f"{digest[:32]}.safetensors" for name, folder in self.folders.items()}

    def build(self, videos: list[str]) -> int:
        """Computes what is missing, with a progress bar, and returns of how many videos something was."""
        missing = [
            video for video in dict.fromkeys(videos) if not all(f.exists() for f in self._files(video).values())
        ]
        for video in tqdm(missing, desc="features", disable=not missing, mininterval=5):
            self._compute(video)
        return len(missing)

    @torch.no_grad()
    def _encode(self, name: str, decoded: DecodedVideo, inputs: BatchFeature) -> torch.Tensor:
        if name == "chunks":
            return torch.from_numpy(decoded.chunks)
        if name == "vision_features":
            return self.encoder.encode_key_frames(inputs["pixel_values"]).half().cpu()
        return self.encoder.encode_chunks(inputs["pixel_values_videos"]).half().cpu()

    def _compute(self, video: str) -> None:
        (decoded,) = self.video_processor.decode(video)
        inputs = self.video_processor(decoded).to(self.encoder.device)
        for name, file in self._files(video).items():
            if not file.exists():
                partial = file.with_suffix(f".{os.getpid()}.partial")
                save_file({name: self._encode(name, decoded, inputs).contiguous()}, partial)
                partial.replace(file)  # atomic: an interrupted run leaves no half file behind

    def __getitem__(self, video: str) -> EncodedVideo:
        files = self._files(video)
        if not all(file.exists() for file in files.values()):
            self._compute(video)
        tensors = {name: load_file(file)[name] for name, file in files.items()}
        return EncodedVideo(
            **{name: tensor.numpy() if name == "chunks" else tensor.float() for name, tensor in tensors.items()}
        )


def _is_trained(tower: torch.nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in tower.parameters())


def _digest(settings: list, tower: torch.nn.Module | None = None) -> str:
    key = hashlib.sha256(json.dumps(settings).encode())
    if tower is not None:
        key.update(tower.config.to_json_string().encode())
        for name, tensor in tower.state_dict().items():
            key.update(name.encode() + tensor.float().cpu().numpy().tobytes())
    return key.hexdigest()[:16]
