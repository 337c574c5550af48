"""`lmmvqa train`: train.py, whose options are those of transformers' TrainingArguments and its own."""

HELP = "train on rows that `lmmvqa prepare` wrote (train.py)"
DESCRIPTION = HELP


def run(argv: list[str]) -> int:
    from ..train import main

    main(argv)
    return 0
