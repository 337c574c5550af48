"""Trains LMM-VQA on rated videos, or on conversations, and writes a complete checkpoint (sections IV-A and IV-D).

    python train.py --model DIR --data ROWS_DIR [ROWS_DIR ...] --output_dir runs/mine --export_dir mine

`--model` is a checkpoint folder or repository, `--data` folders that the builders in `datasets_scripts/` wrote. The
output folder holds checkpoints to resume from and at last the trained model, for use where LMM-VQA is installed, or
with `--lora_rank` the adapter; the export folder is complete, code included, with adapters merged, and it is what
`--push_to_hub` uploads. The same command goes on with a run that was stopped, and exports a finished one again; an
output folder of other data or options is refused. Every option of transformers' TrainingArguments works too. The
defaults are the paper's: a score and a level question for each video, towers and decoder frozen, learning rate 1e-3, batch 32, 6
epochs. `--dry_run` says what a run will take. Several GPUs: `torchrun --nproc_per_node N train.py ...`.

`--stage align` trains the projectors on captions and `--stage instruct` them and the decoder on conversations, both from
rows that `lmmvqa prepare instruction_json` wrote; `--stage quality` is the default. `--stage explain`, after it,
learns short rationales from rows that say what was done to each video. `--mix` adds rows of the other kind.
"""

import json
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    TrainingArguments,
    set_seed,
)
from transformers.hf_argparser import HfArg, HfArgumentParser
from transformers.integrations import unset_hf_deepspeed_config

from lmmvqa.checkpoints.export import check_export_folder, export_checkpoint, load_checkpoint, push_checkpoint
from lmmvqa.checkpoints.model_card import training_model_card, validation_figures, write_eval_results
from lmmvqa.checkpoints.training_videos import carry_training_videos, list_training_videos, save_training_videos
from lmmvqa.datasets_scripts.folder_seal import ROWS_FILE, check_seal, seal_folder, write_whole
from lmmvqa.datasets_scripts.rows import row_media, video_digest
from lmmvqa.evaluation.validation import Validation
from lmmvqa.processing.answers_lmmvqa import SCORE_FORMS
from lmmvqa.processing.context_lmmvqa import check_layout
from lmmvqa.processing.processing_lmmvqa import LmmVqaProcessor
from lmmvqa.processing.readout_lmmvqa import check_score_form
from lmmvqa.scoring.video_files import check_output
from lmmvqa.training.conversations import fit_conversations
from lmmvqa.training.data_collator import LmmVqaDataCollator
from lmmvqa.training.feature_cache import FeatureCache, check_frozen
from lmmvqa.training.qa_pairs import (
    PAPER_TASKS,
    TASKS,
    QaPairs,
    damage_frequencies,
    level_thresholds,
    question_templates,
)
from lmmvqa.training.run_settings import (
    check_decided,
    check_media,
    check_options,
    read_model_config,
    read_rows,
    run_settings,
)
from lmmvqa.training.score_losses import SCORE_LOSS_WEIGHTS, ScoreLoss
from lmmvqa.training.stages import HUMAN_ASSISTANT, STAGES, check_rows, has, set_chat_template, stage_options
from lmmvqa.training.trained_parts import LORA_PARTS, PARTS, add_lora, train_only
from lmmvqa.training.trainer import LmmVqaTrainer
from lmmvqa.training.training_plan import default_batch, training_plan


# Written last: a folder that has it is finished
RESULTS_FILE = "train_results.json"
# What only a folder of the same settings may hold
RESULTS = ("checkpoint-*", "*.safetensors", RESULTS_FILE)


@dataclass
class ModelArguments:
    model: str = HfArg(help="Checkpoint folder or repository to start from.")
    stage: str = HfArg(
        help=f"One of {', '.join(STAGES)}: sets train_parts, learning_rate and num_train_epochs where they are "
        "not given, and which rows are learned.",
        default="quality",
    )
    chat_template: str | None = HfArg(
        help=f"Jinja file, or {HUMAN_ASSISTANT} for the paper's (default: the checkpoint's own).", default=None
    )
    train_parts: list[str] = HfArg(
        help=f"What is trained, of {', '.join(PARTS)}; vision_tower:2 are its last two blocks; the rest is frozen.",
        default_factory=lambda: ["spatial_projector", "temporal_projector"],
    )
    lora_rank: int = HfArg(help="Rank of adapters beside the linear layers of lora_parts; 0 for none.", default=0)
    lora_parts: list[str] = HfArg(
        help=f"What adapters stand beside, of {', '.join(LORA_PARTS)}.", default_factory=lambda: ["language_model"]
    )
    export_dir: str | None = HfArg(help="Folder for the complete trained checkpoint.", default=None)
    license: str | None = HfArg(help="Of the trained weights, for the model card.", default=None)

    def __post_init__(self):
        if self.export_dir is not None:
            check_output("export_dir", self.export_dir, is_folder=True)
        if self.lora_parts != ["language_model"] and not self.lora_rank:
            raise ValueError(
                f"got lora_parts {', '.join(self.lora_parts)} without lora_rank, expected a rank; add --lora_rank 16"
            )


@dataclass
class DataArguments:
    data: list[str] = HfArg(
        help="Folders of rows that `lmmvqa prepare` wrote, of the stage's kind; one named twice counts twice."
    )
    mix: list[str] = HfArg(help="Folders of rows of the other kind, trained on beside them.", default_factory=list)
    tasks: list[str] = HfArg(
        help=f"Questions for each video, of {', '.join(TASKS)}; damage and explain where rows say it.",
        default_factory=lambda: list(PAPER_TASKS),
    )
    score_form: str | None = HfArg(
        help=f"Answers to the score question, {' or '.join(SCORE_FORMS)} (bad to excellent); default: the model's.",
        default=None,
    )
    template_sizes: list[int] | None = HfArg(
        help="How many system prompts, instructions and restrictions to combine; default: all.", default=None
    )
    inference_share: float = HfArg(help="Share of the question that inference asks; 0: all drawn evenly.", default=0.5)
    score_noise: float = HfArg(help="Standard deviation (MOS) of the noise on each score answer.", default=0.0)
    readout_weight: float = HfArg(
        help="Weight of the squared error of the expected score beside the cross-entropy.", default=0.0
    )
    versions_a_batch: int = HfArg(
        help="Versions of one content (rows' column) that come together in a batch; 0: in any order.", default=0
    )
    within_weight: float = HfArg(
        help="Weight of the squared error of differences between them, in units of readout_weight.", default=0.0
    )
    fidelity_weight: float = HfArg(
        help="Weight of the fidelity loss between videos of one data set in a batch: which is the better.", default=0.0
    )
    soft_label_std: float = HfArg(
        help="Standard deviation (MOS) of soft labels about the MOS in place of one answer; 0: none.", default=0.0
    )
    one_second_share: float = HfArg(
        help="Share of answers learned from one second of a video, drawn at random.", default=0.0
    )
    feature_cache: str | None = HfArg(
        help="Folder for the frozen towers' features, computed once a video.", default=None
    )
    dry_run: bool = HfArg(help="Say what the run will take, and train nothing.", default=False)

    def __post_init__(self):
        if self.score_form is not None:
            check_score_form(self.score_form)
        shares = ("inference_share", "one_second_share")
        numbers = ("score_noise", "versions_a_batch", "soft_label_std", *SCORE_LOSS_WEIGHTS)
        for name in (*shares, *numbers):
            value, highest = getattr(self, name), 1 if name in shares else sys.float_info.max
            if not 0 <= value <= highest:
                expected = "a share from 0 to 1" if name in shares else "a number from 0 on"
                raise ValueError(f"got {name}={value}, expected {expected}")


@dataclass
class LmmVqaTrainingArguments(TrainingArguments):
    learning_rate: float = 1e-3
    per_device_train_batch_size: int = HfArg(
        help="0: as many as fit 80 GB, accumulated to a batch of 32 over all processes.", default=0
    )
    num_train_epochs: float = 6.0
    remove_unused_columns: bool = False
    logging_nan_inf_filter: bool = False  # it hides what LmmVqaTrainer stops at
    label_names: list[str] | None = field(default_factory=lambda: ["labels"])


@contextmanager
def wrong_use_in_one_line(parser: HfArgumentParser) -> Iterator[None]:
    """What cannot be trained is one line and exit status 2. What goes wrong in training keeps its traceback."""
    try:
        yield
    except (ValueError, OSError, ImportError, RuntimeError, StrictDataclassError) as error:
        parser.exit(2, f"{parser.prog}: error: {' '.join(str(error).split())}\n")


def _rows(options: Namespace, max_positions: int) -> tuple[dict[str, list[dict]], list[str]]:
    """
    The rows of both kinds by split, conversations no longer than the decoder's context, and a line for each one cut.

    Raises:
        OSError, ValueError: there are no such rows, or not of the stage's kind, or they do not fit.
    """
    rows, mixed = read_rows(options.data), read_rows(options.mix)
    for split in rows:
        check_rows(options.stage, rows[split], mixed[split])
        rows[split] += mixed[split]
    processor = AutoProcessor.from_pretrained(options.model)
    if options.chat_template:
        set_chat_template(processor, options.chat_template)
    notes = []
    for split, of_split in rows.items():
        rows[split], cut = fit_conversations(of_split, processor, max_positions)
        notes += cut
    return rows, notes


def _learn_quality(processor: LmmVqaProcessor, rows: list[dict], data_args: DataArguments) -> None:
    """What a processor asks after training on these rated rows, and how it reads the answers."""
    tasks, form = data_args.tasks, data_args.score_form or processor.score_form
    if form != processor.score_form:
        processor.score_form = form
        processor.score_question = question_templates("score", score_form=form)[0].question
    was_trained = processor.level_answer_thresholds is not None
    processor.level_answer_thresholds = level_thresholds(rows)
    if "level" in tasks:
        processor.level_question = processor.level_question or question_templates("level")[0].question
    elif not was_trained:  # evaluation says that it never learned the question
        processor.level_question = None
    if "damage" in tasks:  # results name damage from here on
        processor.damage_question = question_templates("damage")[0].question
        processor.damage_frequencies = damage_frequencies(rows)


def load_parts(
    model_args: ModelArguments, data_args: DataArguments, training_args: LmmVqaTrainingArguments, rows: list[dict]
) -> tuple[torch.nn.Module, object, FeatureCache | None]:
    """
    The model, of which only what is asked trains, its processor, and the cache of what is frozen where there is one.

    Args:
        rows: of the training split.
    """
    # Mixed precision leaves frozen weights as they are stored
    dtype = torch.float32 if training_args.mixed_precision == "no" else "auto"
    model = AutoModelForImageTextToText.from_pretrained(model_args.model, dtype=dtype)
    processor = AutoProcessor.from_pretrained(model_args.model)
    trained, cache = set_up(model, processor, model_args, data_args, rows), None
    if data_args.feature_cache:
        cache = FeatureCache(data_args.feature_cache, model.eval().to(training_args.device), processor)
    return trained, processor, cache


def set_up(
    model: torch.nn.Module,
    processor: LmmVqaProcessor,
    model_args: ModelArguments,
    data_args: DataArguments,
    rows: list[dict],
) -> torch.nn.Module:
    """The model, with adapters where they are asked for, of which only what is asked trains; the processor in place."""
    check_layout(processor, model.config)
    if model_args.chat_template:
        set_chat_template(processor, model_args.chat_template)
    if any(has(row, "mos") for row in rows):
        _learn_quality(processor, rows, data_args)
    # Weights that change are to be calibrated anew, and MOS are on 0-100 here
    processor.score_map, processor.score_std_scale, processor.pair_std_scale = None, 1.0, 1.0
    train_only(model, model_args.train_parts)
    trained = model
    if model_args.lora_rank:
        trained = add_lora(model, model_args.lora_rank, model_args.train_parts, model_args.lora_parts)
    if data_args.feature_cache:
        check_frozen(model.model.vision_tower)  # of adapters too
    return trained


def make_questions(
    processor: LmmVqaProcessor,
    data_args: DataArguments,
    rows: list[dict],
    seed: int,
    cache: FeatureCache | None = None,
) -> tuple[ScoreLoss, QaPairs]:
    """What is asked about these rows, and what the answers' loss is beside the paper's."""
    score_loss = ScoreLoss(
        processor.score_answer_ids,
        [*processor.score_values.values()],
        data_args.readout_weight,
        data_args.within_weight,
        data_args.fidelity_weight,
        data_args.soft_label_std,
    )
    questions = QaPairs(
        rows,
        tuple(data_args.tasks),
        level_thresholds(rows),
        data_args.score_noise,
        cache,
        seed,
        template_sizes=data_args.template_sizes,
        inference_share=data_args.inference_share,
        one_second_share=data_args.one_second_share,
        score_form=processor.score_form,
    )
    return score_loss, questions


def model_without_weights(model: str) -> torch.nn.Module:
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(model))


def make_trainer(
    model: torch.nn.Module,
    processor: LmmVqaProcessor,
    cache: FeatureCache | None,
    data_args: DataArguments,
    training_args: LmmVqaTrainingArguments,
    rows: list[dict],
    instructing: list[dict],
) -> LmmVqaTrainer:
    """
    Args:
        rows: what is learned.
        instructing: conversations whose loss is validated.
    """
    score_loss, questions = make_questions(processor, data_args, rows, training_args.seed, cache)
    return LmmVqaTrainer(
        score_loss=score_loss,
        versions_a_batch=data_args.versions_a_batch,
        model=model,
        args=training_args,
        train_dataset=questions,
        # What is asked about rated videos is validated by the readout that users get
        eval_dataset=QaPairs(instructing, (), {}, cache=cache) if instructing else None,
        data_collator=LmmVqaDataCollator(processor, model.config.get_text_config().max_position_embeddings),
        processing_class=processor,
    )


def train(
    model_args: ModelArguments,
    data_args: DataArguments,
    training_args: LmmVqaTrainingArguments,
    rows: dict[str, list[dict]],
    settings: dict,
    parser: HfArgumentParser,
) -> None:
    """Fills the output folder: checkpoints to resume from, the trained model, its videos, and last of all its metrics."""
    output = Path(training_args.output_dir)
    with wrong_use_in_one_line(parser):
        set_seed(training_args.seed)
        model, processor, cache = load_parts(model_args, data_args, training_args, rows["train"])
        rated = [row for row in rows["validation"] if has(row, "mos")]
        instructing = [row for row in rows["validation"] if has(row, "conversations")]
        trainer = make_trainer(model, processor, cache, data_args, training_args, rows["train"], instructing)
        validation = Validation(trainer, processor, rated, cache)
        if rated:
            trainer.add_callback(validation)
        if cache is not None:  # last, as it is work
            cache.build([file for row in rows["train"] + rows["validation"] for file in row_media(row)])
        seal_folder(output, settings, RESULTS, others=[ROWS_FILE])
        newest = trainer.newest_checkpoint()

    metrics = trainer.train(resume_from_checkpoint=newest).metrics
    trainer.save_model()
    if rated:
        metrics["validation"] = validation.metrics()
    if instructing:
        metrics["validation_loss"] = trainer.evaluate()["eval_loss"]
    if trainer.is_world_process_zero():
        digest_of = video_digest if cache is None else cache.digest
        save_training_videos(list_training_videos(rows["train"], model_args.model, digest_of), output)
        write_whole(output / RESULTS_FILE, json.dumps(metrics, indent=1) + "\n")
    # Threads of the group free here what they have gathered: at its end they would wait for the interpreter's lock, which
    # waits for them
    trainer.accelerator.wait_for_everyone()
    trainer.end()  # or a process may abort at its exit, while threads of its group still run


def say_plan(
    model_args: ModelArguments,
    data_args: DataArguments,
    training_args: LmmVqaTrainingArguments,
    rows: dict[str, list[dict]],
) -> None:
    """Prints what the run will take, or refuses what `train` would, of a model without weights."""
    processor = AutoProcessor.from_pretrained(model_args.model)
    set_up(model_without_weights(model_args.model), processor, model_args, data_args, rows["train"])
    make_questions(processor, data_args, rows["train"], training_args.seed)
    print(training_plan(model_args, data_args, training_args, rows))


def main(argv: list[str] | None = None) -> None:
    usage = "%(prog)s --model DIR --data ROWS_DIR [ROWS_DIR ...] --output_dir DIR [--export_dir DIR] [OPTIONS]"
    parser = HfArgumentParser((ModelArguments, DataArguments, LmmVqaTrainingArguments), usage=usage)
    with wrong_use_in_one_line(parser):
        argv = sys.argv[1:] if argv is None else [*map(str, argv)]
        options = parser.parse_args(argv)
        config = read_model_config(options.model)
        check_decided(options, config)
        argv = [*stage_options(options.stage, options.lora_rank, config.use_temporal_tokens), *argv]
        options = parser.parse_args(argv)
        rows, notes = _rows(options, config.get_text_config().max_position_embeddings)
        output = Path(options.output_dir)
        is_finished = (output / RESULTS_FILE).is_file()
        if not is_finished:
            check_media(rows)
        if not options.per_device_train_batch_size:
            argv = [*argv, *default_batch(options, rows["train"])]
        model_args, data_args, training_args = parser.parse_args_into_dataclasses(argv)
        # Trainer would upload its output folder, without pipeline and with a card of its own; here the export goes up
        push, training_args.push_to_hub = training_args.push_to_hub, False
        if notes and training_args.process_index == 0:
            print(*notes, sep="\n", file=sys.stderr)
        check_options(data_args, training_args)
        if model_args.export_dir:
            check_export_folder(model_args.export_dir, model_args.model)
        if output.exists() or not data_args.dry_run:  # a plan for a new folder need not read the weights
            settings = run_settings(model_args, data_args, training_args, rows)
            check_seal(output, settings, RESULTS, others=[ROWS_FILE])
        if data_args.dry_run and not is_finished:
            return say_plan(model_args, data_args, training_args, rows)

    if is_finished:
        print(f"{output} holds this run, finished: nothing is trained again", flush=True)
        if data_args.dry_run:
            return
        training_args.distributed_state.destroy_process_group()
    else:
        train(model_args, data_args, training_args, rows, settings, parser)
    if training_args.process_index != 0:
        return
    metrics = json.loads((output / RESULTS_FILE).read_text(encoding="utf-8"))
    unset_hf_deepspeed_config()  # or what is made and loaded here would be sharded again
    shape = model_without_weights(model_args.model)

    def card(name: str) -> str:
        return training_model_card(shape, name, model_args, data_args, training_args, rows["train"], metrics)

    write_whole(output / "README.md", card(output.name))  # so that the folder can be exported later
    figures = validation_figures(metrics.get("validation", {}))
    write_eval_results(output, figures)
    export_dir = model_args.export_dir or (output / "export" if push else None)
    if export_dir:
        # Of a sharded model, no process held more than its share in memory
        model, processor = load_checkpoint(output, model_args.model), AutoProcessor.from_pretrained(output)
        name = training_args.hub_model_id or Path(export_dir).name
        export_checkpoint(model, processor, export_dir, card(name))
        write_eval_results(export_dir, figures)
        carry_training_videos(output, export_dir)
        if push:
            print(push_checkpoint(export_dir, name, bool(training_args.hub_private_repo), training_args.hub_token))


if __name__ == "__main__":
    main()
