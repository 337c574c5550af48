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

from dataclasses import asdict
from itertools import islice

from transformers.pipelines import Pipeline


class VideoQualityAssessmentPipeline(Pipeline):
    """
    Scores videos; see `QualityResult` for the fields of the result.

    Calling it with one video (a path, a file object, an array of frames, a picture) returns a dict, with a list of
    videos a list of dicts. `readout="score"` (default) reads the distribution over the answers 0 to 100 from the
    logits, `readout="generate"` lets the decoder write its answer and parses it, as in the paper. `batch_size` videos
    go through the model together.

    Raises:
        VideoDecodingError: a video of which no frame can be read.
        AnswerParsingError: a generated answer without a score.
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
        self._score_answer_ids = self.processor.score_answer_ids

    def _sanitize_parameters(self, readout: str | None = None, **generate_kwargs):
        if readout not in (None, "score", "generate"):
            raise ValueError(f"got readout={readout!r}, expected 'score' or 'generate'")
        forward_parameters = {} if readout is None else {"readout": readout}
        return {}, forward_parameters | generate_kwargs, {}

    def preprocess(self, videos):
        return self.processor(videos)

    def _forward(self, inputs, readout: str = "score", **generate_kwargs):
        if readout == "score":
            return {"score_log_probabilities": self.model.answer_log_probabilities(self._score_answer_ids, **inputs)}
        generate_kwargs = {"max_new_tokens": 16, "do_sample": False} | generate_kwargs
        sequences = self.model.generate(**inputs, **generate_kwargs)
        return {"answer_ids": sequences[:, inputs["input_ids"].shape[1] :]}

    def postprocess(self, outputs) -> dict:
        return self._results(outputs)[0]

    def _results(self, outputs) -> list[dict]:
        if "score_log_probabilities" in outputs:
            results = self.processor.post_process_scores(outputs["score_log_probabilities"])
        else:
            answers = self.processor.batch_decode(outputs["answer_ids"], skip_special_tokens=True)
            results = [self.processor.post_process_answer(answer.strip()) for answer in answers]
        return [asdict(result) for result in results]

    def get_iterator(self, inputs, num_workers, batch_size, preprocess_params, forward_params, postprocess_params):
        # The base class collates rows that are padded one by one; here the processor makes the batch
        videos = iter(inputs)
        while batch := list(islice(videos, batch_size)):
            yield from self._results(self.forward(self.preprocess(batch), **forward_params))


__all__ = ["VideoQualityAssessmentPipeline"]
