# Copyright 2026 The LMM-VQA authors. All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""
Multi-modal causal attention (MMCA) of DeepSpeed-VisualChat (Yao et al., 2023, arXiv 2309.14327): a decoder weighs what it
reads of visual tokens and of text apart, and adds both.
"""

import torch
from transformers import AttentionInterface
from transformers.cache_utils import Cache
from transformers.integrations.sdpa_attention import sdpa_attention_forward


# The decoder's attn_implementation
MMCA = "lmmvqa_mmca"


def mmca_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """
    An attention function of transformers: one softmax for each mask, their outputs added.

    Args:
        query, key, value: (batch, heads, queries or keys, head size).
        attention_mask: (batch, 2, queries, keys) of `mmca_mask`; None where all is text.

    Returns:
        (batch, queries, heads, head size).
    """
    if attention_mask is None:
        return sdpa_attention_forward(module, query, key, value, None, **kwargs)
    visual, text = (
        sdpa_attention_forward(module, query, key, value, mask, **kwargs)[0] for mask in attention_mask.split(1, dim=1)
    )
    return visual + text, None


AttentionInterface.register(MMCA, mmca_attention)


def mmca_mask(
    attention_mask: torch.Tensor, is_visual: torch.Tensor, num_queries: int, dtype: torch.dtype
) -> torch.Tensor:
    """
    What each query sees of visual tokens and of text: of visual tokens, text sees all before it, a visual token itself
    alone; of text, each sees all before it. As DeepSpeed-VisualChat's implementation adds its masks, text without visual
    tokens before it takes the mean of the text up to it and of the visual tokens behind it.

    Args:
        attention_mask: (batch, keys), 0 on padding; or (batch, 1, queries, keys) to be added, 0 where a query sees a key.
        is_visual: (batch, keys) bool.
        num_queries: which are the last of the keys.

    Returns:
        (batch, 2, queries, keys) to be added: to scores of visual tokens, to those of text.
    """
    num_keys = is_visual.shape[1]
    own = torch.eye(num_keys, dtype=torch.bool, device=is_visual.device)[-num_queries:]  # (queries, keys)
    if attention_mask.ndim == 4:
        seen = attention_mask[:, 0] == 0  # (batch, queries, keys)
    else:
        # Padding sees itself, or it would see nothing
        seen = torch.ones_like(own).tril(num_keys - num_queries) & attention_mask.bool()[:, None] | own
    visual = is_visual[:, None] & (~is_visual[:, -num_queries:, None] | own)
    text = ~is_visual[:, None].expand_as(visual)
    of_kind = torch.stack([visual, text], dim=1)  # (batch, 2, queries, keys)
    zeros, lowest = torch.zeros(visual.shape, dtype=dtype, device=own.device), torch.finfo(dtype).min
    # Two of the lowest are minus infinity. There text may see later text, too, where none stands before it: the answer
    unseen = torch.stack([zeros.masked_fill(~seen, lowest), zeros.masked_fill(~seen, -torch.inf)], dim=1)
    return unseen + zeros[:, None].masked_fill(~of_kind, lowest)


def visual_keys(is_visual: torch.Tensor, cache: Cache | None) -> torch.Tensor:
    """(batch, sequence) which of the new tokens are visual, to (batch, keys) with those that a cache holds."""
    if cache is None or cache.get_seq_length() == 0:
        return is_visual
    return torch.cat([cache.visual_keys[:, : cache.get_seq_length()], is_visual], dim=1)


__all__ = ["MMCA", "mmca_attention", "mmca_mask", "visual_keys"]
