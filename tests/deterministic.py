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
"""Weights and pictures without a random generator, so that stored outputs outlive torch releases."""

import math

import torch
from torch import nn


def wave(shape: tuple[int, ...], phase: float = 0.0) -> torch.Tensor:
    """A sine in [-1, 1] over the flattened shape, computed in float64."""
    steps = torch.arange(math.prod(shape), dtype=torch.float64)
    return torch.sin(1.7 * steps + 0.3 * torch.sqrt(steps) + phase).reshape(shape).float()


def fill(model: nn.Module) -> nn.Module:
    """Fills parameters and BatchNorm statistics in place, every tensor its own way; returns the model in eval mode."""
    with torch.no_grad():
        for index, (name, tensor) in enumerate(sorted(model.state_dict().items())):
            values = wave(tuple(tensor.shape), phase=float(index))
            if name.endswith("num_batches_tracked"):
                continue
            if tensor.dim() > 1:  # convolutions: unit gain
                tensor.copy_(values * math.sqrt(4 / tensor[0].numel()))
            elif name.endswith(("running_var", "norm.weight")):
                tensor.copy_(1 + 0.5 * values)
            else:
                tensor.copy_(0.2 * values)
    return model.eval()
