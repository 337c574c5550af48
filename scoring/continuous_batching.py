"""Written answers of large decoders at high throughput: transformers' continuous batching, with paged attention."""

from dataclasses import asdict
from functools import partial

import torch
from transformers import ContinuousBatchingConfig, GenerationConfig

from ..modeling_lmmvqa import VideoQualityAssessmentPipeline
from ..modeling_lmmvqa.pipeline_lmmvqa import GENERATION, map_windows
from .visual_ids import text_decoder, visual_prompt_ids


class ContinuousScorer:
    """
    What the pipeline gives with `readout="generate"`, but all answers are written together: a video's place in the batch is
    taken by the next one as soon as its answer has ended, nothing is padded, and questions about one video share what
    was read of it. Continuous batching takes token ids alone, so visual tokens are given ids (`visual_ids`).

    Args:
        scorer: of `load_scorer`; its own attention is not used here.
        max_new_tokens: the longest answer.
        config: sizes of the paged cache; by default what fits the device.
    """

    def __init__(
        self,
        scorer: VideoQualityAssessmentPipeline,
        max_new_tokens: int = GENERATION["max_new_tokens"],
        config: ContinuousBatchingConfig | None = None,
    ):
        self.model, self.processor = scorer.model, scorer.processor
        self.decoder = text_decoder(self.model)
        self.max_new_tokens, self.config = max_new_tokens, config

    def __call__(self, videos: list) -> list[dict]:
        """
        Args:
            videos: paths, or in any other form of `video_inputs_lmmvqa.make_video_list`; of as many as fit into memory the
                visual tokens are held at once.

        Raises:
            VideoDecodingError: a video of which no frame can be read.
            AnswerParsingError: an answer that holds no score.
        """
        video_processor = self.processor.video_processor
        encoded = video_processor.encode(video_processor.make_video_list(videos), self.model)
        answered = self.answers(encoded, self.processor.score_question)
        results = [self.processor.post_process_window_answers(*of_video) for of_video in answered]
        return [asdict(result) for result in results]

    @torch.no_grad()
    def answers(self, videos: list, question: str) -> list[tuple[list, list[str], object]]:
        """
        Args:
            videos: of `LmmVqaVideoProcessor.encode`.

        Returns:
            The windows of each video, the answer to each, and the video's facts.

        Raises:
            RuntimeError: continuous batching failed.
        """
        self.model.get_input_embeddings().clear()
        prompt_ids = partial(visual_prompt_ids, self.model)
        asked = map_windows(self.model, self.processor, videos, question, self.max_new_tokens, prompt_ids)
        prompts = [ids for _, of_video, _ in asked for ids in of_video]
        of_model = self.decoder.generation_config
        outputs = self.decoder.generate_batch(
            prompts,
            GenerationConfig(
                max_new_tokens=self.max_new_tokens,
                do_sample=False,
                eos_token_id=of_model.eos_token_id,
                pad_token_id=of_model.pad_token_id,
            ),
            self.config,
        )
        failed = [output.error for output in outputs.values() if output.error is not None]
        if failed or len(outputs) != len(prompts):
            raise RuntimeError(
                f"got answers to {len(outputs) - len(failed)} of {len(prompts)} prompts from continuous batching, expected "
                f"all; {failed[0] if failed else 'see its log'}"
            )
        texts = iter(
            self.processor.batch_decode(
                [output.generated_tokens for output in outputs.values()], skip_special_tokens=True
            )
        )
        return [(windows, [next(texts).strip() for _ in of_video], facts) for windows, of_video, facts in asked]
