"""Video models of transformers in SlowFast's place: VideoMAE, whose number of frames is fixed, and V-JEPA 2."""

import json

import pytest
import torch
from test_assemble import load, parts  # noqa: F401
from transformers import (
    VideoMAEConfig,
    VideoMAEForPreTraining,
    VideoMAEForVideoClassification,
    VJEPA2Config,
    VJEPA2Model,
)

from lmmvqa.checkpoints.assemble import assemble
from lmmvqa.training.trained_parts import train_only


DECODER = {"hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}
COMMON = {"patch_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 48, "tubelet_size": 2}
VIDEOMAE = {"image_size": 32, "num_frames": 4, "intermediate_size": 48, "initializer_range": 0.3, **COMMON}
MODELS = {
    "videomae": lambda: VideoMAEForVideoClassification(VideoMAEConfig(**VIDEOMAE)),
    "videomae_as_pretrained": lambda: VideoMAEForPreTraining(
        VideoMAEConfig(**VIDEOMAE, **{f"decoder_{name}": size for name, size in DECODER.items()})
    ),
    "vjepa2": lambda: VJEPA2Model(
        VJEPA2Config(
            crop_size=32,
            frames_per_clip=4,
            pred_hidden_size=48,
            pred_num_attention_heads=4,
            pred_num_hidden_layers=1,
            initializer_range=0.3,
            **COMMON,
        )
    ),
}
OPTIONS = {"spatial_grid_size": 2, "chunk_sampling": "even"}


@pytest.fixture(params=MODELS)
def temporal(request, tmp_path):
    """A folder of a random video model, as it is published."""
    torch.manual_seed(0)
    model = MODELS[request.param]()
    model.save_pretrained(tmp_path / "temporal")
    statistics = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]}
    (tmp_path / "temporal" / "preprocessor_config.json").write_text(json.dumps(statistics))
    return str(tmp_path / "temporal")


def test_a_video_model_is_the_temporal_tower(temporal, parts, clips, tmp_path):  # noqa: F811
    sources = parts | {"temporal": temporal}
    assemble(**sources, out=tmp_path / "out", dtype=torch.float32, **OPTIONS)
    model, processor = load(tmp_path / "out")
    video_processor = processor.video_processor
    assert (video_processor.chunk_frames, video_processor.chunk_size) == (4, 32)
    assert video_processor.chunk_mean == [0.4, 0.5, 0.6] and video_processor.chunk_std == [0.2, 0.25, 0.3]

    inputs = processor(clips[:2])
    assert inputs["pixel_values_videos"].shape == (3, 4, 3, 32, 32) and "num_clips" not in inputs
    tower = model.model.temporal_tower
    with torch.no_grad():
        features = model.model.encode_chunks(inputs["pixel_values_videos"])
        tokens = tower(inputs["pixel_values_videos"]).last_hidden_state  # (3, 8, 48)
    torch.testing.assert_close(features, tokens.mean(1))
    assert features.shape == (3, 48) and features.std(0).min() > 1e-4
    (result,) = model.rate_videos(processor, clips[0])
    assert 0 < result.score < 100

    # Its token can be learned from
    train_only(model, ["temporal_projector"])
    inputs["labels"] = inputs["input_ids"].where(torch.arange(inputs["input_ids"].shape[1]) >= 5, -100)
    inputs |= {"temporal_features": features.float()}
    del inputs["pixel_values_videos"]
    optimizer = torch.optim.Adam(model.model.temporal_projector.parameters(), lr=0.1)
    losses = []
    for _ in range(8):
        loss = model(**inputs).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_a_number_of_frames_that_it_does_not_take_is_refused(parts, tmp_path):  # noqa: F811
    MODELS["videomae"]().save_pretrained(tmp_path / "temporal")
    sources = parts | {"temporal": str(tmp_path / "temporal")}
    with pytest.raises(ValueError, match="without preprocessor_config.json, expected it to say how frames are"):
        assemble(**sources, out=tmp_path / "out", **OPTIONS)
    (tmp_path / "temporal" / "preprocessor_config.json").write_text(
        '{"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}'
    )
    with pytest.raises(ValueError, match="got chunk_frames=6 and chunk_size=32 for a VideoMAEModel, expected what it"):
        assemble(**sources, out=tmp_path / "out", **OPTIONS, chunk_frames=6)
