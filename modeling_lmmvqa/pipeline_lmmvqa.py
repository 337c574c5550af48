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
"""`pipeline("video-quality-assessment")`: videos in, scores out."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import islice

import torch
from transformers import BatchFeature, GenerationConfig
from transformers.decision import Question
from transformers.pipelines import Pipeline

from .dataset_columns_lmmvqa import batch_videos, result_columns
from .decisions_lmmvqa import LmmVqaDecisionConfig, option_log_probabilities


# Of an answer, unless the caller says otherwise
GENERATION = {"max_new_tokens": 16, "do_sample": False}
# Windows of a long video that are asked about together: more take more memory, and on a CPU more time
WINDOWS_TOGETHER = 16


def map_windows(
    model,
    processor,
    videos: list,
    question: str,
    num_answer_tokens: int,
    function: Callable[[BatchFeature], list],
    beside: Sequence[str] = (),
) -> list[tuple[list, list, object]]:
    """
    Asks a question about encoded videos: together about those that need no windows, see `LmmVqaProcessor.windows`, and
    of the others about `WINDOWS_TOGETHER` windows together, or fewer where one context does not hold as many tokens.

    Args:
        model: a `LmmVqaForConditionalGeneration`.
        processor: its `LmmVqaProcessor`.
        videos: of `LmmVqaVideoProcessor.encode`.
        num_answer_tokens: places to keep free behind the prompt.
        function: the model's inputs to what it answers, a list with one item a window.
        beside: other questions, which have to fit into the same windows.

    Returns:
        The windows of each video, what `function` gave for each of them, and the video's `facts`.
    """
    chat = processor.prompt(question)
    max_positions = model.config.get_text_config().max_position_embeddings

    def ask(parts: list) -> list:
        return function(processor(parts, text=[chat] * len(parts)).to(model.device))

    def ask_windows(video, of_video: list) -> list:
        parts = [video.part(window.first_chunk, window.end_chunk) for window in of_video]
        num_tokens = len(processor.expanded_token_ids(chat, max(len(part.seconds) for part in parts)))
        together = max(1, min(WINDOWS_TOGETHER, max_positions // num_tokens))
        return [answer for start in range(0, len(parts), together) for answer in ask(parts[start : start + together])]

    # More windows are shorter ones: what fits the longest chat fits the others
    chats = [chat, *map(processor.prompt, beside)]
    windows = [
        max((processor.windows(video.seconds, text, max_positions, num_answer_tokens) for text in chats), key=len)
        for video in videos
    ]
    fitting = [video for video, of_video in zip(videos, windows, strict=True) if len(of_video) == 1]
    of_fitting = iter(ask(fitting) if fitting else [])
    return [
        (of_video, [next(of_fitting)] if len(of_video) == 1 else ask_windows(video, of_video), video.facts)
        for video, of_video in zip(videos, windows, strict=True)
    ]


def choose_answers(
    model, processor, videos: list, questions: list[tuple[str, list[list[int]]]]
) -> list[tuple[list, list[torch.Tensor], object]]:
    """
    The distributions over given answers to questions about encoded videos, all in the same windows; see `map_windows` and
    `LmmVqaForConditionalGeneration.answer_log_probabilities`.

    Args:
        questions: pairs of a question and the token ids of its answers.

    Returns:
        The windows of each video, (windows, number of answers) log probabilities for each question, and its `facts`.
    """
    num_answer_tokens = max(len(ids) for _, answer_ids in questions for ids in answer_ids)
    texts = [question for question, _ in questions]

    def ask(question: str, answer_ids: list[list[int]]) -> list[tuple]:
        def answer(inputs: BatchFeature) -> list[torch.Tensor]:
            return list(model.answer_log_probabilities(answer_ids, **inputs))

        return map_windows(model, processor, videos, question, num_answer_tokens, answer, texts)

    of_questions = [ask(*question) for question in questions]
    return [
        (windows, [torch.stack(answers) for _, answers, _ in of_video], facts)
        for of_video in zip(*of_questions, strict=True)
        for windows, _, facts in of_video[:1]
    ]


def choose_options(model, processor, video, questions: list[Question]) -> list[torch.Tensor]:
    """
    Answers typed questions about one video, in any form of `make_video_list`.

    Args:
        questions: of `LmmVqaDecisionConfig.prepare_inputs`.

    Returns:
        See `option_log_probabilities`.
    """
    encoded = processor.video_processor.encode([video], model)
    ((windows, answers, _),) = choose_answers(model, processor, encoded, processor.result_questions)
    return option_log_probabilities(processor, questions, windows, answers)


class VideoQualityAssessmentPipeline(Pipeline):
    """
    Scores videos; see `QualityResult` for the fields of the result.

    Calling it with one video (a path, a file object, an array or a list of frames, a picture) returns a dict, with a list
    of videos a list with a dict for each; with a generator, a dataset or a column of one (`KeyDataset(dataset, "video")`)
    an iterator, which reads each video when it is asked for its dict. `video_inputs_lmmvqa` has the whole table.

    `readout="score"` (default) reads the distribution over the answers 0 to 100 from the logits, `readout="generate"` lets
    the decoder write its answer and parses it, as in the paper, with the options of `GenerationConfig`. `fps`, or
    `video_metadata` with an entry for each, is the frame rate of videos that are arrays or lists of pictures. `batch_size`
    videos go through the model together. Videos longer than the decoder's context are scored in windows, whatever the
    readout. `problems=True` looks for named problems in every frame, see `WatchedFrames`. With `on_error="row"` a video that cannot be read, or whose generated answer holds no score, gives
    `{"error": one line}` in its place, and the others are scored; with `on_error="raise"` (default) it ends the call.

    Raises:
        VideoDecodingError: a video of which no frame can be read.
        AnswerParsingError: a generated answer without a score.
        TypeError: an unknown option.
        ValueError: options of generation without `readout="generate"`.
    """

    _load_processor = True
    _load_tokenizer = False
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = False
    _pipeline_calls_generate = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.model.eval()
        self._questions = self.processor.result_questions

    def _sanitize_parameters(
        self,
        readout: str | None = None,
        on_error: str | None = None,
        fps: float | None = None,
        problems: bool | None = None,
        **generate_kwargs,
    ):
        if readout not in (None, "score", "generate"):
            raise ValueError(f"got readout={readout!r}, expected 'score' or 'generate'")
        if on_error not in (None, "raise", "row"):
            raise ValueError(f"got on_error={on_error!r}, expected 'raise' or 'row'")
        # `generate` takes stop_strings' tokenizer by name, without naming it
        of_generation = {"tokenizer", *vars(GenerationConfig()), *inspect.signature(self.model.generate).parameters}
        if unknown := generate_kwargs.keys() - of_generation:
            raise TypeError(
                f"got {', '.join(sorted(unknown))}, expected some of readout, on_error, fps, problems, video_metadata, "
                "batch_size, num_workers, and with readout='generate' options of GenerationConfig, such as max_new_tokens"
            )
        of_reading = {"fps": fps, "problems": problems}
        preprocess_parameters = {name: value for name, value in of_reading.items() if value is not None}
        forward_parameters = {} if readout is None else {"readout": readout}
        postprocess_parameters = {} if on_error is None else {"on_error": on_error}
        return preprocess_parameters, forward_parameters | generate_kwargs, postprocess_parameters

    def __call__(self, inputs, video_metadata=None, **kwargs) -> dict | list[dict] | Iterator[dict]:
        video_processor = self.processor.video_processor
        if video_processor.is_stream(inputs):
            if video_metadata is not None:
                raise ValueError(
                    "got video_metadata for a generator or dataset, expected it for a list; let each item be a pair (frames, "
                    "metadata)"
                )
            return super().__call__((video for video in inputs), **kwargs)
        videos = video_processor.make_video_list(inputs, video_metadata)
        results = super().__call__(videos, **kwargs) if videos else []
        return results if video_processor.is_batch(inputs) else results[0]

    @torch.no_grad()
    def decide(self, request: dict | str) -> dict[str, dict]:
        """
        Answers typed questions about a video or a picture with a probability for every option, as `pipeline("decision")`
        does; see `decisions_lmmvqa` for what can be asked.

        Args:
            request: `{"state": "clip", "assets": {"clip": video}, "questions": {name: {"type", "criteria"}}}`, or its JSON. The
                video has any form that the call takes of one, or that of a System One asset, `{"data_base64": ...}`.

        Returns:
            The answers in the System One format, by question.

        Raises:
            VideoDecodingError: a video of which no frame can be read.
            ValueError: a request of another form, or a question that the model has not learned.
        """
        ((inputs, questions),) = LmmVqaDecisionConfig().prepare_inputs(request, self.processor)
        scores = choose_options(self.model, self.processor, inputs["video"], questions)
        return {
            question.name: question.answer(of_options.softmax(-1).tolist())
            for question, of_options in zip(questions, scores, strict=True)
        }

    def score_batch(
        self,
        batch: Mapping,
        column: str = "video",
        start: str | None = None,
        end: str | None = None,
        prefix: str = "",
        **options,
    ) -> dict[str, list]:
        """
        Columns with the score of each row, for `dataset.map(scorer.score_batch, batched=True, batch_size=8)` of `datasets`;
        what else is said goes into its `fn_kwargs`. A column of `datasets.Video` is read as it is stored, decoded or not. A
        row of which no video can be read keeps its place: its `error` says why, and its score is NaN.

        Args:
            batch: columns of a data set.
            column: of videos, in any form of the call's list items.
            start, end: columns of seconds where videos are parts of files, such as the episodes of a robot: each part is
                scored by itself, and found by seeking. None in a row is the file's beginning or end.
            prefix: of the new columns' names.
            **options: of the call, such as `problems=True`.

        Returns:
            A list for each of the columns of `dataset_columns_lmmvqa.result_columns`.

        Raises:
            ValueError: there is no such column, or one of the new columns' names is taken.
        """
        answer_names = self.processor.answer_names
        if taken := [name for name in result_columns([], answer_names, prefix) if name in batch]:
            raise ValueError(
                f"got a data set with columns {', '.join(taken)}, which is how the new ones are called, expected other names; "
                "rename them, or set prefix"
            )
        videos = batch_videos(batch, column, start, end, self.processor.video_processor.stored_part)
        return result_columns(list(self(videos, on_error="row", **options)), answer_names, prefix)

    def preprocess(self, videos, fps: float | None = None, problems: bool = False):
        # Encoding belongs to reading: a long video's pixels are never in memory all at once
        return self.processor.video_processor.encode(videos, self.model, fps=fps, problems=problems)

    def _forward(self, videos, readout: str = "score", **generate_kwargs):
        if readout == "score":
            return choose_answers(self.model, self.processor, videos, self._questions)
        # The base class sets aside those that the pipeline was made with
        generate_kwargs = GENERATION | self._generate_kwargs | generate_kwargs
        answer = partial(self.generate_answers, **generate_kwargs)
        question, num_answer_tokens = self.processor.score_question, generate_kwargs["max_new_tokens"]
        return map_windows(self.model, self.processor, videos, question, num_answer_tokens, answer)

    def generate_answers(self, inputs: BatchFeature, **generate_kwargs) -> list[str]:
        """What the decoder writes to each prompt of the processor's inputs, special tokens left out."""
        input_ids = inputs["input_ids"]
        sequences = self.model.generate(
            input_ids=input_ids,
            attention_mask=inputs["attention_mask"],
            # `generate` encodes pixels once; of features it takes what follows the projectors
            mm_encoder_outputs=self.model.model.visual_outputs(**inputs),
            **generate_kwargs,
        )
        answers = sequences[:, input_ids.shape[1] :]
        return [answer.strip() for answer in self.processor.batch_decode(answers, skip_special_tokens=True)]

    def postprocess(self, outputs) -> dict:
        ((windows, answers, facts),) = outputs
        if isinstance(answers[0], str):
            return asdict(self.processor.post_process_window_answers(windows, answers, facts))
        return asdict(self.processor.post_process_window_scores(windows, answers[0], facts, *answers[1:]))

    def get_iterator(self, inputs, num_workers, batch_size, preprocess_params, forward_params, postprocess_params):
        # The base class collates rows that are padded one by one; here the processor makes the batch
        if batch_size < 1:
            raise ValueError(f"got batch_size={batch_size}, expected at least 1 video")
        options = forward_params.keys() - {"readout"}
        if options and forward_params.get("readout") != "generate":
            raise ValueError(
                f"got {', '.join(sorted(options))} without readout='generate', expected no options of generation: nothing is "
                "generated; add it, or leave them out"
            )
        return self._iterate(iter(inputs), batch_size, preprocess_params, forward_params, **postprocess_params)

    def _iterate(
        self, videos: Iterator, batch_size: int, preprocess_params: dict, forward_params: dict, on_error: str = "raise"
    ) -> Iterator[dict]:
        def in_its_place(function: Callable, *given) -> tuple[object, dict | None]:
            """What `function` gives, or the row that takes its place."""
            try:
                return function(*given), None
            except (ValueError, TypeError, OSError) as error:
                if on_error == "raise":  # VideoDecodingError and AnswerParsingError are ValueErrors
                    raise
                return None, {"error": " ".join(str(error).split())}

        while batch := list(islice(videos, batch_size)):
            read = [in_its_place(self._preprocess_one, video, preprocess_params) for video in batch]
            encoded = [video for video, row in read if row is None]
            outputs = iter(self.forward(encoded, **forward_params) if encoded else [])
            for _, row in read:
                if row is None:
                    result, row = in_its_place(self.postprocess, [next(outputs)])
                yield row or result

    def _preprocess_one(self, video, preprocess_params: dict):
        videos = self.processor.video_processor.make_video_list([video])
        if len(videos) != 1:
            raise ValueError(
                f"got an item of {len(videos)} videos, expected one for each item of a generator or dataset, so that results "
                "keep their places; give a list of them"
            )
        (encoded,) = self.preprocess(videos, **preprocess_params)
        return encoded


__all__ = ["VideoQualityAssessmentPipeline", "choose_answers", "choose_options", "map_windows"]
