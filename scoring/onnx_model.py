"""A model that ONNX Runtime computes, in the place of one that PyTorch does."""

from pathlib import Path

import torch
from transformers import AutoConfig

from ..checkpoints.onnx_export import DECODER, TOWERS, check_packages
from ..modeling_lmmvqa.answer_tree_lmmvqa import AnswerTree
from ..modeling_lmmvqa.modeling_lmmvqa import LmmVqaForConditionalGeneration


class OnnxModel(LmmVqaForConditionalGeneration):
    """
    What the pipeline asks of a model, from the graphs that `export_onnx` wrote, on the CPU. It holds no weights of PyTorch's
    and generates no text.
    """

    device = torch.device("cpu")  # its own parameters are on none

    @classmethod
    def load(cls, folder: str | Path) -> "OnnxModel":
        """
        Args:
            folder: of `export_onnx`.

        Raises:
            ValueError: it holds no graphs, or ONNX Runtime is not installed.
        """
        check_packages()
        import onnxruntime

        if missing := [name for name in (TOWERS, DECODER) if not (Path(folder) / name).is_file()]:
            raise ValueError(
                f"got {folder} without {' and '.join(missing)}, expected a folder that `lmmvqa export --onnx` wrote; run it "
                "and name its folder as the model"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Threads that wait for work take time from decoding
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        with torch.device("meta"):
            model = cls(AutoConfig.from_pretrained(folder))
        model.towers, model.decoder = (
            onnxruntime.InferenceSession(Path(folder) / name, options, ["CPUExecutionProvider"])
            for name in (TOWERS, DECODER)
        )
        return model.eval()

    def encode_pixels(
        self,
        pixel_values: torch.Tensor,
        pixel_values_videos: torch.Tensor,
        num_clips: torch.LongTensor,
        num_frames: torch.LongTensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As in the base class, chunk after chunk: maps of more do not fit a CPU's cache."""
        clips = num_clips.tolist()
        chunks = zip(
            pixel_values.split(self.config.key_frame_views),
            pixel_values_videos.split(clips),
            num_clips.split(1),
            num_frames.split(clips),
            strict=True,
        )
        names = ("pixel_values", "pixel_values_videos", "num_clips", "num_frames")
        features = [_run(self.towers, **dict(zip(names, chunk, strict=True))) for chunk in chunks]
        vision_features, temporal_features = map(torch.cat, zip(*features, strict=True))
        return vision_features, temporal_features

    def answer_log_probabilities(self, answer_ids: list[list[int]], **inputs) -> torch.Tensor:
        """As in the base class, for answers of one token."""
        (logits,) = _run(self.decoder, **inputs)
        return AnswerTree(answer_ids).log_probabilities(logits[:, None])


def _run(session, **inputs: torch.Tensor) -> list[torch.Tensor]:
    outputs = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    return list(map(torch.from_numpy, outputs))
