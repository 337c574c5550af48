"""Visual tokens as ids, and continuous batching with them: what the model itself gives."""

import pytest
import torch
from conftest import tiny_pair, write_clip
from transformers import ContinuousBatchingConfig

from lmmvqa.modeling_lmmvqa import VideoQualityAssessmentPipeline
from lmmvqa.scoring.continuous_batching import ContinuousScorer
from lmmvqa.scoring.visual_ids import text_decoder, visual_prompt_ids


# A small cache: by default it takes nearly all memory there is
SMALL = ContinuousBatchingConfig(num_blocks=16, max_batch_tokens=512)


@pytest.fixture(scope="module")
def scorer():
    model, processor = tiny_pair()
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    return VideoQualityAssessmentPipeline(model=model, processor=processor)


@torch.no_grad()
def test_a_decoder_of_ids_gives_the_models_logits(clips):
    model, processor = tiny_pair()
    inputs = processor(processor.video_processor.encode(clips, model))
    expected = model(**inputs).logits[:, -1]
    decoder = text_decoder(model)
    prompts = visual_prompt_ids(model, inputs)
    assert list(map(len, prompts)) == inputs["attention_mask"].sum(-1).tolist()
    got = torch.cat([decoder(input_ids=torch.tensor([ids])).logits[:, -1] for ids in prompts])
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(model(**inputs).logits[:, -1], expected)  # which still answers as before
    visual = [{token for token in ids if token >= len(processor.tokenizer)} for ids in prompts]
    assert len(set.union(*visual)) == sum(map(len, visual))  # no video has another one's tokens


def test_continuous_batching_writes_what_generate_writes(scorer, clips, tmp_path):
    processor = scorer.processor
    processor.max_window_seconds = 2  # the third clip is asked about in two windows
    videos = [*clips, write_clip(tmp_path / "more.mp4", num_frames=30, seed=7)]
    encoded = processor.video_processor.encode(videos, scorer.model)
    expected = scorer.forward(encoded, readout="generate", max_new_tokens=8)
    continuous = ContinuousScorer(scorer, max_new_tokens=8, config=SMALL)
    for _ in range(2):  # ids are given anew
        got = continuous.answers(encoded, processor.score_question)
        assert [(windows, answers) for windows, answers, _ in got] == [
            (windows, answers) for windows, answers, _ in expected
        ]
    assert [len(answers) for _, answers, _ in got] == [1, 1, 2, 1]


def test_scores_are_those_of_the_pipeline(scorer, clips, monkeypatch):
    written = ["41", "62", "83", "10"]
    processor = scorer.processor
    processor.max_window_seconds = 2
    continuous = ContinuousScorer(scorer, max_new_tokens=8, config=SMALL)

    def decode(sequences, **options):  # a tiny random model writes no numbers
        return written[: len(sequences)]

    monkeypatch.setattr(processor, "batch_decode", decode)
    results = continuous(clips)
    assert [result["score"] for result in results] == pytest.approx([41, 62, (83 + 2 * 10) / 3])
    assert results[2]["answer"] == "83; 10" and results[0]["frames"] == 30
