"""Any image-text-to-text model of transformers as zero-shot scorer, asked as LMM-VQA is (Table I)."""

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, BatchFeature

from ..checkpoints.hub_connection import check_obtainable
from ..modeling_lmmvqa.pipeline_lmmvqa import GENERATION
from ..processing.answers_lmmvqa import AnswerParsingError, parse_level, parse_score
from ..training.qa_pairs import question_templates
from .key_frames import key_frames


class LmmBaseline:
    """
    A model that sees the key frames, first frame of each second, writes its answer, and has it parsed as LMM-VQA's.

    It is asked the first template of each task, in one user message, system prompt first: not every chat template has
    a system role.

    Args:
        model: folder or repository.
        device: as PyTorch names it; by default the accelerator where there is one.
        dtype: of weights and computation, as PyTorch names it; "auto" is the checkpoint's.
        max_frames: most key frames that it sees, see `key_frames`.
        frames_as: "images", several in a message, or "video", one clip, for a model whose processor takes videos.

    Raises:
        ValueError: another kind of model, no chat template, or one without place for the frames.
    """

    def __init__(
        self,
        model: str,
        device: str | None = None,
        dtype: str = "auto",
        max_frames: int = 8,
        frames_as: str = "images",
    ):
        check_obtainable(model)
        device = device or str(torch.accelerator.current_accelerator() or "cpu")
        self.model = AutoModelForImageTextToText.from_pretrained(model, dtype=dtype).to(device).eval()
        self.processor = AutoProcessor.from_pretrained(model)
        if self.processor.chat_template is None:
            raise ValueError(f"got {model}, whose processor has no chat template, expected a model trained to chat")
        self.max_frames, self.frames_as = max_frames, frames_as
        # Before any video: transformers refuses a template that leaves them out
        self._inputs([np.zeros((64, 64, 3), np.uint8)], "score")

    def predict(self, video: str, tasks: tuple[str, ...]) -> dict:
        """
        Returns:
            `score`, `answer` (as it was written) and `level_answer`; what was not asked for is None, and so is what a
            written answer does not state: then `error` quotes it.

        Raises:
            VideoDecodingError, FileNotFoundError: the video cannot be read.
        """
        frames = key_frames(video, most=self.max_frames)
        result, errors = {}, []
        for task, name, parse in (("score", "score", parse_score), ("level", "level_answer", parse_level)):
            if task in tasks:
                written = self.answer(frames, task)
                result |= {"answer": written} if task == "score" else {}
                try:
                    result[name] = parse(written)
                except AnswerParsingError as error:
                    errors.append(str(error))
        return dict.fromkeys(("score", "answer", "level_answer")) | result | {"error": "; ".join(errors) or None}

    @torch.no_grad()
    def answer(self, frames: list[np.ndarray], task: str) -> str:
        """What the model writes about frames (height, width, 3) when asked for a "score" or a "level"."""
        inputs = self._inputs(frames, task)
        sequences = self.model.generate(**inputs, **GENERATION)
        answers = sequences[:, inputs["input_ids"].shape[1] :]
        return self.processor.batch_decode(answers, skip_special_tokens=True)[0].strip()

    def _inputs(self, frames: list[np.ndarray], task: str) -> BatchFeature:
        template = question_templates(task)[0]
        if self.frames_as == "video":
            visual, options = [{"type": "video", "video": np.stack(frames)}], {"do_sample_frames": False}
        else:
            visual, options = [{"type": "image", "image": Image.fromarray(frame)} for frame in frames], {}
        text = f"{template.system_prompt}\n{template.question}"
        inputs = self.processor.apply_chat_template(
            [{"role": "user", "content": [*visual, {"type": "text", "text": text}]}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs=options,
        )
        return inputs.to(self.model.device, dtype=self.model.dtype)
