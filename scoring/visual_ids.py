"""
A model's decoder as transformers' own class of plain language models, with visual tokens as token ids: for what takes ids
alone, such as continuous batching and TRL.
"""

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from ..modeling_lmmvqa import LmmVqaForConditionalGeneration


class VisualEmbedding(nn.Embedding):
    """
    A decoder's embeddings, with its own weight, and behind them rows of visual tokens: an id from `num_embeddings` on is a
    visual token. No id stands for two tokens, so what shares a beginning of ids shares its keys and values, too.
    """

    def __init__(self, embedding: nn.Embedding):
        super().__init__(*embedding.weight.shape, padding_idx=embedding.padding_idx, device="meta")
        self.weight = embedding.weight
        self.rows = nn.Buffer(embedding.weight.new_empty(0, self.embedding_dim), persistent=False)

    def add(self, tokens: torch.Tensor) -> torch.Tensor:
        """
        Args:
            tokens: (tokens, hidden_size).

        Returns:
            (tokens,) their ids.
        """
        first = self.num_embeddings + len(self.rows)
        self.rows = torch.cat([self.rows, tokens.detach().to(self.rows)])
        return torch.arange(first, first + len(tokens), device=tokens.device)

    def clear(self) -> None:
        """Forgets the visual tokens; their ids are given anew."""
        self.rows = self.rows[:0]

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:  # (...), to (..., hidden_size)
        is_visual = input_ids >= self.num_embeddings
        embeddings = super().forward(input_ids.masked_fill(is_visual, 0))
        if not len(self.rows):
            return embeddings
        visual = self.rows[(input_ids - self.num_embeddings).clamp(min=0)]
        return torch.where(is_visual[..., None], visual, embeddings)


def text_decoder(model: LmmVqaForConditionalGeneration) -> PreTrainedModel:
    """
    The decoder and its head, sharing their weights with the model, whose embeddings become a `VisualEmbedding`; text alone
    they treat as before.

    Raises:
        ValueError: a decoder that must know which tokens are visual.
    """
    if model.config.decoder_attention != "causal":
        raise ValueError(
            f"got a model with decoder_attention={model.config.decoder_attention!r}, expected 'causal', since here visual "
            "tokens are ids like any other; use the pipeline"
        )
    language_model = model.model.language_model
    with torch.device("meta"):
        decoder = AutoModelForCausalLM.from_config(language_model.config, dtype=model.dtype)
    setattr(decoder, decoder.base_model_prefix, language_model)
    decoder.config = language_model.config  # one object, whose attention both read
    decoder.set_output_embeddings(model.lm_head)
    decoder.set_input_embeddings(VisualEmbedding(model.get_input_embeddings()))
    decoder.generation_config = model.generation_config
    return decoder.train(model.training)


@torch.no_grad()
def visual_prompt_ids(model: LmmVqaForConditionalGeneration, inputs: dict[str, torch.Tensor]) -> list[list[int]]:
    """
    Prompts without padding, in which each placeholder is the id of its visual token.

    Args:
        model: one of which `text_decoder` was made.
        inputs: of the processor, pixels or features.
    """
    input_ids, own = inputs["input_ids"].clone(), inputs["attention_mask"].bool()
    embedding, outputs = model.get_input_embeddings(), model.model.visual_outputs(**inputs)
    for token_id, output in (
        (model.config.image_token_id, outputs["image"]),
        (model.config.video_token_id, outputs["video"]),
    ):
        if output is not None:
            input_ids[input_ids == token_id] = embedding.add(torch.cat(list(output.pooler_output)))
    return [ids[of_row].tolist() for ids, of_row in zip(input_ids, own, strict=True)]
