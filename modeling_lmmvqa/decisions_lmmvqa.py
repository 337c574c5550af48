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
"""Typed questions about a video, in the form of `pipeline("decision")` and of `/v1/systemone` in `transformers serve`.

| question | options (`criteria`) | answered from |
|---|---|---|
| score | levels, the lowest first | the distribution over scores, in as many equal parts of the scale |
| choice | some of poor, fair, good | `level_probabilities` of the result |
| choice | some of the kinds of damage and "none" | `damage` of the result, where the model knows it |

Nothing else can be asked: the model has learned these questions alone. So `instructions` are left out, or are the model's own
question, and the `state` of a request is the name of its one asset, the video or picture.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from transformers.decision import DecisionConfig, Question, parse_questions


# Of probability: less has no logarithm
LEAST_PROBABILITY = 1e-12
FORM = '{"state": name, "assets": {name: video}, "questions": {name: question}}'


@strict
@dataclass
class LmmVqaDecisionConfig(DecisionConfig):
    """As transformers' own, but its prompts are the model's, with a video in them."""

    # As many levels as a score may have; labels are never written
    labels: dict[str, list[str]] = field(default_factory=lambda: {"score": [str(score) for score in range(101)]})

    def prepare_inputs(self, request: dict[str, Any] | str, processor) -> list[tuple[dict, list[Question]]]:
        """
        Args:
            request: {"state", "questions", "assets"}, or its JSON.
            processor: the model's `LmmVqaProcessor`.

        Returns:
            One prompt with all the questions: what `LmmVqaForDecision.decide` takes, and the questions.

        Raises:
            ValueError: a request of another form, or a question that the model has not learned.
        """
        if isinstance(request, str):
            request = json.loads(request)
        if not isinstance(request, Mapping) or not {"state", "questions"} <= set(request):
            raise ValueError(f"got a request of type {type(request).__name__}, expected {FORM}, or its JSON")
        questions = parse_questions(request["questions"], self)
        for question in questions:
            _check_learned(question, processor)
        videos = processor.video_processor.make_video_list([_shown(request)])
        if len(videos) != 1:
            raise ValueError(f"got an asset of {len(videos)} videos, expected one; ask about each by itself")
        input_ids = processor.tokenizer(processor.prompt(), add_special_tokens=False, return_tensors="pt")["input_ids"]
        return [({"input_ids": input_ids, "video": videos[0], "processor": processor}, questions)]


def _shown(request: Mapping) -> Any:
    """The video or picture of a request, as `make_video_list` takes it."""
    state, assets = request["state"], request.get("assets") or {}
    if len(assets) != 1 or state not in list(assets):
        raise ValueError(
            f"got the state {str(state)[:80]!r} and the assets {', '.join(assets) or 'none'}, expected one asset, and its name as "
            "the state: the model judges what is shown, and reads no text beside it"
        )
    asset = assets[state]
    if not isinstance(asset, Mapping):
        return asset
    # From a server's request: never a path
    if not isinstance(asset.get("data_base64"), str):
        raise ValueError(
            f"got an asset with {', '.join(map(str, asset))}, expected a file in it, as in "
            '{"type": "video", "format": "mp4", "data_base64": "..."}'
        )
    try:
        return base64.b64decode(asset["data_base64"], validate=True)
    except binascii.Error as error:
        raise ValueError(f"got data_base64 that is no base64 ({error}), expected a file's bytes as base64") from error


def _field_of(question: Question, processor) -> str | None:
    """The field of a result whose keys a choice is between."""
    fields = processor.answer_names.items()
    return next((name for name, options in fields if set(question.options) <= set(options)), None)


def _check_learned(question: Question, processor) -> None:
    learned = {"level_probabilities": processor.level_question, "damage": processor.damage_question}
    asked = processor.score_question if question.type == "score" else learned.get(_field_of(question, processor))
    if question.type == "noul" or asked is None:
        known = (
            f"choice between some of {', '.join(processor.answer_names[name])}" for name in learned if learned[name]
        )
        raise ValueError(
            f"got the {question.type} question {question.name!r} about {', '.join(question.options)}, expected score with "
            f"levels, the lowest first, or {' or '.join(known)}: the model has learned nothing else"
        )
    if question.instructions not in (None, "", asked):
        raise ValueError(
            f"got the question {question.name!r} with instructions {str(question.instructions)[:200]!r}, expected none or "
            f"{asked!r}: the model has learned no other words for it"
        )


def option_log_probabilities(
    processor, questions: list[Question], windows: list, answers: list[torch.Tensor]
) -> list[torch.Tensor]:
    """
    Args:
        processor: the model's `LmmVqaProcessor`.
        questions: checked by `LmmVqaDecisionConfig.prepare_inputs`.
        windows, answers: of one video, by `choose_answers` with the processor's `result_questions`.

    Returns:
        (options,) log probabilities for each question, whose sum is less than 1 where some options are not asked for.
    """
    result = processor.post_process_window_scores(windows, answers[0], None, *answers[1:])

    def log_probabilities(question: Question) -> torch.Tensor:
        if question.type == "score":
            probabilities = processor.score_masses(windows, answers[0], len(question.options))
        else:
            of_field = getattr(result, _field_of(question, processor))
            probabilities = [of_field[option] for option in question.options]
        return torch.tensor(probabilities, dtype=torch.float64).clamp(min=LEAST_PROBABILITY).log()

    return [log_probabilities(question) for question in questions]


__all__ = ["LmmVqaDecisionConfig", "option_log_probabilities"]
