"""
Rationales by reinforcement: GRPO (Shao et al., 2024) with TRL, for decoders that `train.py --stage explain` taught to write.

    pip install 'lmmvqa[grpo]'
    python -m lmmvqa.recipes.grpo --model mine --data data/chains/dataset --out mine-grpo --output_dir runs/grpo --max_steps 200

For each video several rationales are sampled. One gets a point for its form, "... Score: 63.", and one for a score within
`--tolerance` of the MOS; what beats the mean of its video's is made likelier. Adapters on the decoder alone are
trained and merged at the end: towers and projectors are frozen, so each video's visual tokens are computed once and
are token ids for TRL (`scoring/visual_ids.py`), whose trainer knows images alone. Every option of TRL's GRPOConfig works too.
"""

import re
from dataclasses import dataclass
from functools import partial

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.hf_argparser import HfArg, HfArgumentParser
from trl import GRPOConfig, GRPOTrainer

from lmmvqa.checkpoints.export import export_checkpoint
from lmmvqa.checkpoints.model_card import model_card
from lmmvqa.checkpoints.training_videos import list_training_videos, save_training_videos
from lmmvqa.datasets_scripts.rows import load_rows
from lmmvqa.scoring.visual_ids import text_decoder, visual_prompt_ids
from lmmvqa.training.qa_pairs import EXPLAIN, question_templates


FORM = re.compile(r"[^\d]+\. Score: (\d{1,3})\.")


@dataclass
class GrpoArguments:
    model: str = HfArg(help="Checkpoint folder or repository that learned to explain.")
    data: str = HfArg(help="Folder of rated rows that `lmmvqa prepare` wrote.")
    out: str = HfArg(help="New folder for the complete trained checkpoint.")
    tolerance: float = HfArg(help="How far (MOS) a rewarded score may be from the MOS.", default=5.0)
    lora_rank: int = HfArg(help="Rank of the adapters on the decoder's linear layers.", default=16)


def form_reward(completions: list[str], **columns) -> list[float]:
    """1 for each rationale that says something and ends with one score."""
    return [float(FORM.fullmatch(text.strip()) is not None) for text in completions]


def score_reward(completions: list[str], mos: list[float], tolerance: float, **columns) -> list[float]:
    """1 for each rationale whose score is within `tolerance` of the MOS."""
    found = [FORM.fullmatch(text.strip()) for text in completions]
    return [
        float(match is not None and abs(int(match[1]) - value) <= tolerance)
        for match, value in zip(found, mos, strict=True)
    ]


class VideoGrpoTrainer(GRPOTrainer):
    """TRL's trainer of text, whose prompts are numbers of `prompt_ids`, since ids of visual tokens have no text."""

    def __init__(self, *args, prompt_ids: list[list[int]], **kwargs):
        super().__init__(*args, **kwargs)
        self.prompt_ids = prompt_ids

    def _tokenize_prompts(self, prompts: list[str]):
        return [self.prompt_ids[int(prompt)] for prompt in prompts], None, {}


def train_grpo(arguments: GrpoArguments, config: GRPOConfig) -> VideoGrpoTrainer:
    """
    Raises:
        OSError, ValueError: there is no such model, or no rated rows.
    """
    rows = [row for row in load_rows(arguments.data)["train"] if row["mos"] is not None]
    dtype = "auto" if config.bf16 or config.fp16 else torch.float32
    model = AutoModelForImageTextToText.from_pretrained(arguments.model, dtype=dtype)
    processor = AutoProcessor.from_pretrained(arguments.model)
    model.to(config.device)
    embedding, decoder = model.get_input_embeddings(), text_decoder(model)
    prompt = processor.prompt(question_templates(EXPLAIN)[0].question)
    max_positions = model.config.get_text_config().max_position_embeddings
    prompt_ids = []
    for row in rows:
        videos = processor.video_processor.encode([row["video"]], model)
        shown = processor.fit_videos(videos, prompt, max_positions, config.max_completion_length)
        prompt_ids += visual_prompt_ids(model, processor(shown, text=[prompt]).to(model.device))

    in_tolerance = partial(score_reward, tolerance=arguments.tolerance)
    in_tolerance.__name__ = "score_reward"  # in TRL's log
    trainer = VideoGrpoTrainer(
        decoder,
        [form_reward, in_tolerance],
        config,
        Dataset.from_list([{"prompt": str(index), "mos": row["mos"]} for index, row in enumerate(rows)]),
        processing_class=processor.tokenizer,
        peft_config=LoraConfig(
            r=arguments.lora_rank,
            lora_alpha=2 * arguments.lora_rank,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
        prompt_ids=prompt_ids,
    )
    trainer.train()
    trainer.accelerator.unwrap_model(trainer.model).merge_and_unload()  # into the model, whose layers these are
    model.set_input_embeddings(embedding)
    if trainer.is_world_process_zero():
        name = arguments.out.rstrip("/").rpartition("/")[2]
        export_checkpoint(model.eval(), processor, arguments.out, model_card(model, name))
        save_training_videos(list_training_videos(rows, arguments.model), arguments.out)
    return trainer


def main() -> None:
    parser = HfArgumentParser((GrpoArguments, GRPOConfig))
    train_grpo(*parser.parse_args_into_dataclasses())


if __name__ == "__main__":
    main()
