"""A conversation about videos and pictures: the towers see each of them once, the decoder reads each turn once."""

import re
from functools import cached_property

import torch
from transformers import DynamicCache
from transformers.generation.streamers import BaseStreamer

from ..modeling_lmmvqa import VideoQualityAssessmentPipeline
from ..modeling_lmmvqa.modeling_lmmvqa import CACHE
from ..processing.answers_lmmvqa import QualityResult
from ..processing.processing_lmmvqa import VIDEO_MARK


# What is asked with one of these words is answered by what the model measures, too
QUALITY_WORDS = re.compile(
    r"\b(quality|scores?|rat(e|es|ed|ing)|sharp\w*|blur\w*|nois[ey]\w*|artifacts?|artefacts?|compress\w*|damag\w*|"
    r"distort\w*|degrad\w*|block(y|ing|iness)|clarity|(looks?|how) good|bad)\b",
    re.IGNORECASE,
)
# Of the context: what videos leave free for the first answer and for further turns
FREE_SHARE = 0.25


def is_about_quality(question: str) -> bool:
    return QUALITY_WORDS.search(question) is not None


class Chat:
    """
    The first question is asked about all that is shown, further ones go on from there. Videos that do not fit are
    shortened as in training, see `LmmVqaProcessor.fit_videos`.

    Args:
        scorer: of `load_scorer`.
        videos: what is shown, in order, in any form of `video_inputs_lmmvqa.make_video_list`, or encoded.
        max_new_tokens: the longest answer.

    Raises:
        VideoDecodingError: a video of which no frame can be read.
    """

    def __init__(self, scorer: VideoQualityAssessmentPipeline, videos: list, max_new_tokens: int = 256):
        self.model, self.processor = scorer.model, scorer.processor
        self.max_positions = self.model.config.get_text_config().max_position_embeddings
        self.max_new_tokens = max_new_tokens
        self.videos = [
            encoded
            for video in videos  # each alone: several pictures in one list would be one video
            for encoded in self.processor.video_processor.encode([video], self.model)
        ]
        self.turns: list[dict[str, str]] = []
        self._shown = None
        self._cache, self._cached_ids = None, []

    @torch.no_grad()
    def ask(self, question: str, streamer: BaseStreamer | None = None) -> str:
        """
        The most probable answer, word by word.

        Args:
            streamer: gets the answer's tokens as they are written.

        Raises:
            ValueError: the conversation has become longer than the decoder's context, or a question holds a placeholder.
        """
        content = question if self.turns else f"{VIDEO_MARK}\n" * len(self.videos) + question
        turns = [*self.turns, {"role": "user", "content": content}]
        text = self.processor.conversation_prompt(turns, add_generation_prompt=True)
        if self._shown is None:
            num_free = max(min(self.max_new_tokens, self.max_positions // 2), int(FREE_SHARE * self.max_positions))
            self._shown = self.processor.fit_videos(self.videos, text, self.max_positions, num_free)
        inputs = self.processor(self._shown, text=[text]).to(self.model.device)
        input_ids = inputs["input_ids"]
        free = self.max_positions - input_ids.shape[1]
        if free < 1:
            raise ValueError(
                f"got a conversation of {input_ids.shape[1]} tokens, expected fewer than the decoder's "
                f"{self.max_positions} positions; begin a new one"
            )
        cache = self._cache_for(input_ids[0].tolist())
        sequence = self.model.generate(
            input_ids=input_ids,
            attention_mask=inputs["attention_mask"],
            mm_encoder_outputs={} if cache.get_seq_length() else self.model.model.visual_outputs(**inputs),
            max_new_tokens=min(self.max_new_tokens, free),
            do_sample=False,
            streamer=streamer,
            **{CACHE: cache},
        )[0]
        self._cached_ids = sequence[: cache.get_seq_length()].tolist()
        answer = self.processor.decode(sequence[input_ids.shape[1] :], skip_special_tokens=True).strip()
        self.turns = [*turns, {"role": "assistant", "content": answer}]
        return answer

    def _cache_for(self, token_ids: list[int]) -> DynamicCache:
        """
        Keys and values of the tokens that this prompt has in common with what was read before: an answer that is
        tokenised otherwise in its turn than it was written is read again.
        """
        visual_ids = {self.processor.video_token_id, *self.processor.image_token_ids}
        num_shared = next(
            (place for place, (old, new) in enumerate(zip(self._cached_ids, token_ids, strict=False)) if old != new),
            min(len(self._cached_ids), len(token_ids) - 1),
        )
        # What is shown is read at the beginning alone
        if any(token in visual_ids for token in token_ids[num_shared:]):
            num_shared = 0
        if num_shared == 0:
            self._cache, self._cached_ids = DynamicCache(config=self.model.config.get_text_config()), []
        else:
            self._cache.crop(num_shared - len(self._cached_ids))
        return self._cache

    @cached_property
    def measured(self) -> list[QualityResult] | None:
        """The quality of each video that is shown, as scoring measures it; None from a model that never learned to."""
        if self.processor.level_answer_thresholds is None:
            return None
        return self.model.rate_videos(self.processor, self.videos)
