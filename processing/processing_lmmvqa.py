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
"""Questions about videos to the model's inputs: prompts and placeholders."""

from transformers.image_processing_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin, TextKwargs
from transformers.video_processing_utils import VideoProcessorMixin

from .answers_lmmvqa import DAMAGE_ANSWERS, LEVELS
from .context_lmmvqa import ContextMixin, check_views
from .readout_lmmvqa import ReadoutMixin, check_calibration, check_score_form
from .video_processing_lmmvqa import SETTINGS


SYSTEM_PROMPT = "You are an expert in video quality assessment."
# Stands for a video or a picture in the turns of a conversation, whatever the tokenizer
VIDEO_MARK = "<video>"

# Where a block of a chat may name what it shows, as transformers has it
SOURCE_NAMES = {"image": ("image", "url", "path", "base64"), "video": ("video", "url", "path")}
# The video processor refuses them, and says why
SAMPLING = {"do_sample_frames", "num_frames"}


class LmmVqaProcessor(ContextMixin, ReadoutMixin, ProcessorMixin):
    r"""
    Puts questions about videos into the decoder's chat template, with as many placeholders as there will be visual
    tokens, and reads scores and levels from answers.

    video_processor (`LmmVqaVideoProcessor`): Decodes and scales videos.
    tokenizer (`PreTrainedTokenizerFast`): The decoder's, with both placeholder tokens.
    chat_template (`str`, *optional*): The decoder's, unless given.
    key_frame_token (`str`): Placeholder of one key-frame token; its id is the model's `image_token_id`.
    video_token (`str`): Stands for a video in a prompt, and for one temporal token once expanded (`video_token_id`).
    spatial_grid_size, key_frame_views, spatial_reduction, temporal_reduction, temporal_fusion, temporal_placement,
        use_temporal_tokens: As in `LmmVqaConfig`.
    system_prompt, score_question (`str`): What is asked unless the caller asks something else.
    score_form (`str`): Answers to the score question: `"numbers"` 0 to 100, or `"categories"`, the five words bad, poor,
        fair, good, excellent, whose expected value is the score (Q-Align, arXiv 2312.17090): from 10 to 90, since each
        stands for the middle of its fifth.
    level_question (`str`, *optional*): Asks for the level; None in models that never learned to answer it.
    system_role (`bool`): False for chat templates without system messages: the user's turn opens with the prompt then.
    level_thresholds (`tuple[float, float]`):
        Scores from which a video is fair and good. 40 and 60 are the borders of "fair" on the five-point scale
        bad - poor - fair - good - excellent stretched over 0-100. They stay on that scale: calibration moves them with
        the scores, so that a video keeps its level.
    level_answer_thresholds (`dict[str, list[float]]`, *optional*):
        For each training set by name, the MOS between its thirds (section III-B), which the answer to the level
        question refers to.
    max_window_seconds (`int`, *optional*):
        Longest part of a video that is judged at once, for models that were trained on short videos. Longer videos are
        judged in windows, as those are that the decoder's context does not hold.
    score_map (`list[float]`, *optional*):
        What the scores 0, 1, ... 100 become on another scale of opinions, strictly rising; straight lines between
        them. `lmmvqa calibrate` fits it. Without it scores are 0 to 100.
    damage_question (`str`, *optional*):
        Asks what is wrong with a video, in models that were trained to answer it. Without it results name no damage.
    damage_frequencies (`list[float]`, *optional*):
        How often each of `DAMAGE_ANSWERS` was the answer in training. Probabilities of damage are given as if all were
        equally frequent there, or common kinds would hide rare ones (logit adjustment, arXiv 2007.07314). Without it they
        are the model's own.
    score_std_scale (`float`):
        Standard deviation of the distribution over scores, on the scale of the scores, for each point that the answers
        deviate: 1 is the model's own, more widens it about the score.
    pair_std_scale (`float`):
        Standard deviation of the difference between the scores of two versions of one content, over that of two
        independent scores. Below 1 where the model errs alike on versions of one content, above 1 where it errs more on
        their differences than its deviations say. 1, independent errors, is taken where nothing was fitted: `lmmvqa
        calibrate` does for ratings with a column `content`.
    """

    # Chats are rendered with every special token already
    text_kwargs = {"padding": True, "return_tensors": "pt", "add_special_tokens": False}
    videos_kwargs = {"return_tensors": "pt"}

    def __init__(
        self,
        video_processor=None,
        tokenizer=None,
        chat_template=None,
        key_frame_token="<|key_frame|>",
        video_token="<|video|>",
        spatial_grid_size=16,
        spatial_reduction="none",
        temporal_reduction="mean",
        temporal_fusion="decoder",
        use_temporal_tokens=True,
        system_prompt=SYSTEM_PROMPT,
        score_question="How good is the visual quality of this video? Answer with a whole number from 0 (worst) to 100 (best).",
        level_question="How good is the visual quality of this video? Answer with one word: poor, fair or good.",
        level_thresholds=(40.0, 60.0),
        level_answer_thresholds=None,
        system_role=True,
        max_window_seconds=None,
        score_map=None,
        score_std_scale=1.0,
        key_frame_views=1,
        damage_question=None,
        pair_std_scale=1.0,
        damage_frequencies=None,
        score_form="numbers",
        temporal_placement="after",
    ):
        check_score_form(score_form)
        check_calibration(score_map, score_std_scale=score_std_scale, pair_std_scale=pair_std_scale)
        if max_window_seconds is not None and max_window_seconds < 1:
            raise ValueError(f"got max_window_seconds={max_window_seconds}, expected at least 1, or None for no limit")
        self.key_frame_token = key_frame_token
        self.video_token = video_token
        self.video_token_id = tokenizer.convert_tokens_to_ids(video_token)
        self.image_token_ids = [tokenizer.convert_tokens_to_ids(key_frame_token)]
        self.spatial_grid_size = spatial_grid_size
        self.key_frame_views = key_frame_views
        self.spatial_reduction = spatial_reduction
        self.temporal_reduction = temporal_reduction
        self.temporal_fusion = temporal_fusion
        self.temporal_placement = temporal_placement
        self.use_temporal_tokens = use_temporal_tokens
        self.system_prompt = system_prompt
        self.system_role = system_role
        self.score_question = score_question
        self.score_form = score_form
        self.level_question = level_question
        self.damage_question = damage_question
        self.damage_frequencies = damage_frequencies
        self.level_thresholds = tuple(level_thresholds)
        self.level_answer_thresholds = level_answer_thresholds
        self.max_window_seconds = max_window_seconds
        self.score_map = score_map
        self.score_std_scale = score_std_scale
        self.pair_std_scale = pair_std_scale
        super().__init__(video_processor, tokenizer, chat_template=chat_template or tokenizer.chat_template)
        check_views(key_frame_views, video_processor.key_frame_fragments)

    def check_argument_for_proper_class(self, argument_name, argument):
        # The base class finds VideoProcessorMixin only where torchvision is installed
        if argument_name != "video_processor":
            return super().check_argument_for_proper_class(argument_name, argument)
        if not isinstance(argument, VideoProcessorMixin):
            raise TypeError(
                f"got a video_processor of type {type(argument).__name__}, expected a LmmVqaVideoProcessor"
            )
        return VideoProcessorMixin

    def prompt(self, question: str | None = None, answer: str | None = None, system_prompt: str | None = None) -> str:
        """
        The chat of one video and one question, placeholders not expanded yet.

        Args:
            question: `score_question` by default.
            answer: the assistant's turn; without it the text ends where the answer begins.
            system_prompt: the processor's by default.
        """
        return self.conversation_prompt(self.turns(question, answer, system_prompt), answer is None)

    def turns(
        self, question: str | None = None, answer: str | None = None, system_prompt: str | None = None
    ) -> list[dict[str, str]]:
        """The conversation of one video and one question, see `prompt`."""
        turns = [
            {"role": "system", "content": system_prompt or self.system_prompt},
            {"role": "user", "content": f"{VIDEO_MARK}\n{question or self.score_question}"},
        ]
        return turns if answer is None else [*turns, {"role": "assistant", "content": answer}]

    def conversation_prompt(self, turns: list[dict[str, str]], add_generation_prompt: bool = False) -> str:
        """
        The chat of a conversation, placeholders not expanded yet.

        Args:
            turns: {role, content} of "user" and "assistant", perhaps after one of "system"; `VIDEO_MARK` stands in the
                user's turns where a video or a picture is shown.
            add_generation_prompt: the text ends where an answer begins.

        Raises:
            ValueError: a turn holds a placeholder of the tokenizer's.
        """
        for turn in turns:
            if written := [token for token in (self.key_frame_token, self.video_token) if token in turn["content"]]:
                raise ValueError(
                    f"got a turn with {written[0]}, expected {VIDEO_MARK} for what is shown: {turn['content'][:200]!r}"
                )
        messages = [
            {**turn, "content": turn["content"].replace(VIDEO_MARK, self.video_token)}
            if turn["role"] == "user"
            else turn
            for turn in turns
        ]
        if not self.system_role and messages[0]["role"] == "system":
            system, user, *others = messages
            messages = [{**user, "content": f"{system['content']}\n{user['content']}"}, *others]
        return self.tokenizer.apply_chat_template(
            messages, chat_template=self.chat_template, tokenize=False, add_generation_prompt=add_generation_prompt
        )

    def __call__(
        self, videos=None, text: str | list[str] | None = None, images=None, audio=None, **kwargs
    ) -> BatchFeature:
        """
        Args:
            videos: one video or a list, in any form of `video_inputs_lmmvqa.make_video_list`.
            text: one chat a video, made by `prompt` or `apply_chat_template`; by default the score question to each.
            images: pictures, each a video of one frame; they come before the videos.
            audio: refused, since the model does not hear.
            **kwargs: `return_tensors`, and the video processor's and the tokenizer's options; `fps` and `video_metadata` are
                of images and videos.

        Returns:
            `input_ids` and `attention_mask` (num_videos, sequence), and the outputs of `LmmVqaVideoProcessor`.

        Raises:
            VideoDecodingError: a video of which no frame can be read.
            TypeError: an option that neither the video processor nor the tokenizer has.
            ValueError: no input, or sound; as many `video_token` in the chats as videos are expected; a video longer than
                `max_window_seconds`; images and videos beside a text, which does not say in which order.
        """
        _check_options(kwargs)
        if audio is not None:
            raise ValueError("got audio, expected videos, images or text: the model does not hear; leave it out")
        if videos is None and images is None and text is None:
            raise ValueError("got neither videos nor images nor text, expected at least one of them")
        if videos is not None and images is not None and text is not None:
            raise ValueError(
                "got images and videos beside a text, which does not say in which order they stand; give all of them as "
                "videos, in order, or use apply_chat_template"
            )
        given = None
        if videos is not None or images is not None:
            pictures = [] if images is None else self.video_processor.make_image_list(images)
            videos = [] if videos is None else self.video_processor.make_video_list(videos)
            given = self.video_processor.make_video_list(
                pictures + videos, kwargs.pop("video_metadata", None), kwargs.pop("fps", None)
            )
            if not given:
                raise ValueError("got an empty list of videos, expected at least one")
            text = [self.prompt()] * len(given) if text is None else text
        if "padding_side" not in kwargs.get("text_kwargs", {}):
            # Answers follow the end of a row, and Llama's tokenizers pad there
            kwargs = {"padding_side": "left"} | kwargs
        return super().__call__(text=text, videos=given, **kwargs)

    def apply_chat_template(
        self,
        conversation,
        chat_template: str | None = None,
        *args,
        sanitize_control_tokens: bool = False,
        processor_kwargs: dict | None = None,
        **kwargs,
    ):
        """
        As transformers' own, for any decoder's template: a block of type "video" or "image", such as `{"type": "video",
        "path": "clip.mp4"}`, stands in the chat as the video does in `prompt`, in the order of the blocks. An image is a
        video of one frame. A video of frames may have their rate beside it, `"fps": 25`.

        A template of the caller's own sees blocks, all that is shown as `{"type": "video"}`; and so does the decoder's with
        `sanitize_control_tokens`, which takes no placeholder out of a text.

        Raises:
            ValueError: a block of another type, or one that holds something unknown.
        """
        shown = []
        in_words = chat_template is None and not sanitize_control_tokens

        def without_sources(message: dict) -> dict:
            if not isinstance(message.get("content"), list | tuple):
                return message
            blocks = []
            for block in message["content"]:
                if block["type"] != "text":
                    shown.extend(self._shown(block))
                    block = {"type": "text", "text": f"{self.video_token}\n"} if in_words else {"type": "video"}
                blocks.append(block)
            return {**message, "content": "".join(block["text"] for block in blocks) if in_words else blocks}

        is_batched = isinstance(conversation[0], list | tuple)
        chats = [
            [without_sources(message) for message in chat] for chat in (conversation if is_batched else [conversation])
        ]
        # Transformers takes as images what a template places by itself; it would have `fps` mean that frames are sampled
        processor_kwargs = {"do_sample_frames": False, "images": [shown] if shown else None} | (processor_kwargs or {})
        return super().apply_chat_template(
            chats if is_batched else chats[0],
            chat_template,
            *args,
            sanitize_control_tokens=sanitize_control_tokens,
            processor_kwargs=processor_kwargs,
            **kwargs,
        )

    def _shown(self, block: dict) -> list:
        kind = block["type"]
        if kind == "image_url":  # as OpenAI writes it
            address = block["image_url"]
            kind, block = "image", {"type": "image", "url": address["url"] if isinstance(address, dict) else address}
        if kind not in SOURCE_NAMES:
            raise ValueError(f"got a block of type {kind!r}, expected text, {' or '.join(SOURCE_NAMES)}")
        known = ("type", *SOURCE_NAMES[kind], *(["fps"] if kind == "video" else []))
        if unknown := block.keys() - set(known):
            raise ValueError(
                f"got a block of type {kind!r} with {', '.join(sorted(unknown))}, expected {', '.join(known)}"
            )
        sources = {name: block[name] for name in SOURCE_NAMES[kind] if block.get(name) is not None}
        if "base64" in sources:
            sources["base64"] = f"data:;base64,{sources['base64']}"
        if kind == "image":
            return self.video_processor.make_image_list(list(sources.values()))
        return [
            video
            for source in sources.values()
            for video in self.video_processor.make_video_list(source, fps=block.get("fps"))
        ]

    def validate_inputs(self, images=None, text=None, videos=None, audio=None, **kwargs):
        in_text = sum(chat.count(self.video_token) for chat in text or [])
        if in_text != len(videos or []):
            raise ValueError(
                f"got {in_text} {self.video_token} in the chats for {len(videos or [])} videos, expected equal "
                "numbers; write each chat with `prompt`"
            )

    def _process_videos(self, videos, **kwargs):
        video_inputs = self.video_processor(videos, **kwargs)
        return video_inputs, [self.replace_video_token(video_inputs, index) for index in range(len(videos))]

    def replace_video_token(self, video_inputs: dict, video_idx: int, **kwargs) -> str:
        num_chunks = int(video_inputs["num_chunks"][video_idx])
        if num_chunks > (self.max_window_seconds or num_chunks):
            raise ValueError(
                f"got a video of {num_chunks} one-second chunks, expected at most {self.max_window_seconds}, since this "
                "model judges no more at once; score it with `model.rate_videos(processor, videos)` or the pipeline, "
                "which cut it into windows"
            )
        return self.placeholders(num_chunks)

    def conversation_token_ids(self, turns: list[dict[str, str]]) -> tuple[list[int], list[bool]]:
        """
        Token ids of a conversation, one for each video, and which of them are its answers, end-of-turn tokens included,
        in their place: tokenised alone, an answer may merge otherwise.

        Raises:
            ValueError: the chat template gives a question other tokens when an answer follows.
        """

        def token_ids(count: int, add_generation_prompt: bool) -> list[int]:
            text = self.conversation_prompt(turns[:count], add_generation_prompt)
            return self.tokenizer(text, add_special_tokens=False)["input_ids"]

        chat = token_ids(len(turns), False)
        end_of_turn, is_answer = self.tokenizer.eos_token_id, [False] * len(chat)
        for index, turn in enumerate(turns):
            if turn["role"] != "assistant":
                continue
            prompt = token_ids(index, True)
            answered = chat if index + 1 == len(turns) else token_ids(index + 1, False)
            # Templates may add a line break after the turn's end; the answer ends at the last end-of-turn token
            end = len(answered) - answered[::-1].index(end_of_turn) if end_of_turn in answered else 0
            if answered[: len(prompt)] != prompt or chat[:end] != answered[:end] or end <= len(prompt) + 1:
                raise ValueError(
                    f"got the chat {self.tokenizer.decode(chat)!r}, expected the prompt "
                    f"{self.tokenizer.decode(prompt)!r}, then an answer and {self.tokenizer.eos_token!r}; use a chat "
                    "template that keeps the prompt and ends turns with the tokenizer's eos_token"
                )
            is_answer[len(prompt) : end] = [True] * (end - len(prompt))
        return chat, is_answer

    def answer_token_ids(self, question: str, answer: str) -> list[int]:
        """
        Token ids of an answer in its place after the question, end-of-turn token included.

        Raises:
            ValueError: see `conversation_token_ids`.
        """
        chat, is_answer = self.conversation_token_ids(self.turns(question, answer))
        return [token for token, of_answer in zip(chat, is_answer, strict=True) if of_answer]

    @property
    def score_answer_ids(self) -> list[list[int]]:
        """Token ids of the answers of `score_values` to the score question, without end-of-turn token."""
        return [self.answer_token_ids(self.score_question, answer)[:-1] for answer in self.score_values]

    @property
    def level_answer_ids(self) -> list[list[int]]:
        """Token ids of the answers poor, fair and good to the level question, without end-of-turn token."""
        return [self.answer_token_ids(self.level_question, answer)[:-1] for answer in LEVELS]

    @property
    def damage_answer_ids(self) -> list[list[int]]:
        """Token ids of `DAMAGE_ANSWERS` to the damage question, without end-of-turn token."""
        return [self.answer_token_ids(self.damage_question, answer)[:-1] for answer in DAMAGE_ANSWERS.values()]

    @property
    def result_questions(self) -> list[tuple[str, list[list[int]]]]:
        """What results are read from: the score question and, in models that know it, the damage question, with answers' ids."""
        questions = [(self.score_question, self.score_answer_ids)]
        if self.damage_question is not None:
            questions.append((self.damage_question, self.damage_answer_ids))
        return questions


def _check_options(options: dict) -> None:
    """
    Raises:
        TypeError: an option is unknown; transformers would leave it out.
    """
    of_videos = {*SETTINGS, "return_tensors", "video_metadata", "fps"}
    of_text = set(TextKwargs.__annotations__)
    of_groups = {"text_kwargs": of_text, "videos_kwargs": of_videos, "common_kwargs": of_text & of_videos}
    for group, known in {None: of_text | of_videos | of_groups.keys(), **of_groups}.items():
        given = options if group is None else options.get(group, {})
        if unknown := given.keys() - known - SAMPLING:
            raise TypeError(
                f"got {', '.join(sorted(unknown))}{f' in {group}' if group else ''}, expected some of "
                f"{', '.join(sorted(known))}"
            )


__all__ = ["LmmVqaProcessor"]
