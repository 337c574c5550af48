"""`lmmvqa chat`: questions about a video in words."""

import sys
from dataclasses import dataclass

from ..scoring.options import option
from ..scoring.report import score_text
from .model_options import ModelOptions, load
from .output import print_line, warn


HELP = "ask about a video or picture in words"
DESCRIPTION = (
    "Answers a question about a video or picture; without one, the questions that are typed, each a line, which go on "
    "from the answers before. A question about quality gets the measured score and level below the answer, so that words "
    "and numbers stand side by side. Models that were trained by train.py --stage instruct answer any question; the "
    "embedded one knows those about quality alone."
)


@dataclass(kw_only=True)
class Options(ModelOptions):
    video: str = option("video or picture", positional=True, metavar="VIDEO")
    question: str | None = option("in words", default=None, positional=True, nargs="?", metavar="QUESTION")
    image: list[str] = option("pictures or videos that are shown after it", default=[], metavar="FILE")
    max_new_tokens: int = option("of an answer (default: 256)", default=256)


def run(options: Options) -> int:
    scorer, _ = load(options)
    from transformers import TextStreamer

    from ..scoring.chat import Chat, is_about_quality

    files = [options.video, *options.image]
    chat = Chat(scorer, files, options.max_new_tokens)
    streamer = TextStreamer(scorer.processor.tokenizer, skip_prompt=True, skip_special_tokens=True)

    def answer(question: str) -> None:
        chat.ask(question, streamer)
        if not is_about_quality(question):
            return
        if chat.measured is None:
            print_line("[not measured: this model was not trained on ratings]")
            return
        for file, result in zip(files, chat.measured, strict=True):
            score, std = (score_text(number, result.scale) for number in (result.score, result.score_std))
            print_line(f"[measured: {file} {score} ± {std}, {result.level}]")

    if options.question is not None:
        answer(options.question)
        return 0
    is_typed = sys.stdin.isatty()
    if is_typed:
        warn("An empty line ends the conversation.")
    while True:
        try:
            question = input("> " if is_typed else "").strip()
        except EOFError:
            return 0
        if not question:
            return 0
        answer(question)
