"""MMCA: a decoder that weighs visual tokens and text apart, and the preset of the code that circulates."""

import pytest
import torch
from conftest import tiny_pair
from test_score_losses import batch_of, learn

from lmmvqa.checkpoints.assemble import PRESETS
from lmmvqa.modeling_lmmvqa import LmmVqaConfig
from lmmvqa.modeling_lmmvqa.mmca_lmmvqa import mmca_mask
from lmmvqa.scoring.visual_ids import text_decoder
from lmmvqa.training.qa_pairs import QaPairs
from lmmvqa.training.trained_parts import train_only


OPTIONS = {
    name: value
    for name, value in PRESETS["circulating"].items()
    if name in LmmVqaConfig.__annotations__ and name != "vision_feature_layer"
}
MMCA = {"decoder_attention": "mmca"}


def circulating_attention(scores: torch.Tensor, kinds: list[int]) -> torch.Tensor:
    """
    Weights of one row as DeepSpeed-VisualChat's modeling_llama.py takes them: scores (queries, keys), kinds 0 of padding, 1
    of text, 2 of visual tokens; masks are added, so that two of them overflow to minus infinity.
    """
    lowest, length = torch.finfo(scores.dtype).min, len(kinds)
    causal = torch.full((length, length), lowest).triu(1)
    visual = torch.tensor([[0.0 if kind == 2 else lowest for kind in kinds]]).repeat(length, 1)
    for place, kind in enumerate(kinds):
        if kind == 2:
            visual[place] = lowest
            visual[place, place] = 0
    text = torch.tensor([[0.0 if kind == 1 else lowest for kind in kinds]]).repeat(length, 1)
    return sum((scores + (causal + of_kind)).softmax(-1) for of_kind in (visual, text))


@pytest.mark.parametrize("kinds", [[1, 1, 2, 2, 2, 1, 1], [2, 2, 1, 2, 1, 1]])
def test_weights_are_those_of_deepspeed_visualchat(kinds):
    torch.manual_seed(0)
    scores = torch.randn(len(kinds), len(kinds))
    is_visual = torch.tensor([[kind == 2 for kind in kinds]])
    mask = mmca_mask(torch.ones(1, len(kinds)), is_visual, len(kinds), torch.float32)[0]
    ours = (scores + mask).softmax(-1).sum(0)
    first = kinds.index(1)  # before it, their tokens see the text behind them
    torch.testing.assert_close(ours[first:], circulating_attention(scores, kinds)[first:], rtol=0, atol=1e-6)
    torch.testing.assert_close(ours.sum(-1), torch.full((len(kinds),), 2.0))
    assert not ours[:first].triu(1).any()


@torch.no_grad()
def test_attention_reaches_the_decoder_and_padding_and_caches_change_nothing(clips):
    model, processor = tiny_pair(**MMCA)
    own, _ = tiny_pair()
    own.load_state_dict(model.state_dict())
    video_processor = processor.video_processor
    encoded = video_processor.encode(clips, model)
    batch = processor(encoded, text=3 * [processor.prompt(processor.score_question)])
    logits = model(**batch, logits_to_keep=1).logits
    assert not torch.allclose(logits, own(**batch, logits_to_keep=1).logits, atol=1e-3)
    for row, video in enumerate(encoded):
        alone = model(**processor([video]), logits_to_keep=1).logits
        torch.testing.assert_close(alone[0], logits[row], rtol=0, atol=1e-5)

    inputs = processor(clips[0])  # pixels, since `generate` takes no features
    visual = {name: value for name, value in inputs.items() if name not in ("input_ids", "attention_mask")}
    written = model.generate(**inputs, max_new_tokens=4, min_new_tokens=4, do_sample=False)
    steps = model(input_ids=written, **visual, logits_to_keep=5).logits[0, :-1]
    assert steps.argmax(-1).tolist() == written[0, -4:].tolist()
    # Answers of two tokens are read behind the cached prompt
    answers = [[10, 11], [10, 12], [13]]
    expected = []
    for answer in answers:
        ids = torch.cat([inputs["input_ids"], torch.tensor([answer])], dim=1)
        steps = model(input_ids=ids, **visual, logits_to_keep=len(answer) + 1).logits[0, :-1].log_softmax(-1)
        expected.append(sum(steps[place, token] for place, token in enumerate(answer)))
    answered = model.answer_log_probabilities(answers, **inputs)[0]
    torch.testing.assert_close(answered, torch.stack(expected).log_softmax(0), rtol=0, atol=1e-4)


def test_a_tiny_model_learns_with_mmca(clips):
    model, processor = tiny_pair(**MMCA)
    train_only(model, ["spatial_projector", "temporal_projector", "language_model"])
    rows = [
        {"video": clip, "mos": mos, "dataset": "tiny"} for clip, mos in zip(clips, (10.0, 50.0, 90.0), strict=True)
    ]
    batch = batch_of(processor, QaPairs(rows, ("score",), {}, inference_share=1.0))
    learn(model, batch, 40)
    scores = [result.score for result in model.eval().rate_videos(processor, clips)]
    assert scores == pytest.approx([10, 50, 90], abs=5)


@torch.no_grad()
def test_the_circulating_preset_takes_the_mean_before_the_projector_and_a_norm_behind_it(clips, tmp_path):
    model, processor = tiny_pair(**OPTIONS)
    (video,) = processor.video_processor.encode(clips[2:], model)
    seen = {}
    model.model.spatial_projector.register_forward_pre_hook(lambda module, args: seen.update(features=args[0]))
    inputs = processor([video])
    tokens = model(**inputs).image_hidden_states
    motion = model.model.temporal_projector(video.temporal_features)
    expected = torch.cat([video.vision_features, motion[:, None]], dim=1).mean(0)
    torch.testing.assert_close(seen["features"], expected[None])
    assert len(tokens) == 5 and inputs["input_ids"].tolist()[0].count(model.config.image_token_id) == 5
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(5), atol=1e-5, rtol=0)  # which a LayerNorm gives

    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)


def test_a_decoder_that_must_know_visual_tokens_takes_no_ids_for_them():
    with pytest.raises(ValueError, match="got a model with decoder_attention='mmca', expected 'causal'"):
        text_decoder(tiny_pair(**MMCA)[0])
