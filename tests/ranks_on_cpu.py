"""Runs a script in processes on a CPU that accelerate takes for GPUs: it offers FSDP and DeepSpeed to no CPU.

torchrun --nproc_per_node 2 tests/ranks_on_cpu.py train.py ...
"""

import runpy
import sys

import torch
from accelerate import DistributedType, PartialState


def set_device(state: PartialState) -> None:
    state.device = torch.device("cpu")


if __name__ == "__main__":
    PartialState._prepare_backend = lambda *arguments: ("gloo", DistributedType.MULTI_GPU)
    PartialState.set_device = set_device
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
