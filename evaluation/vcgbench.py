"""VCGBench ([Video-ChatGPT](https://huggingface.co/papers/2306.05424)): open questions about videos, judged in five aspects.

A model answers every question, and a language model compares its answers with those of people, aspect by aspect, from 0
to 5. The prompts are our own, written after the published rubric, so figures stand beside published ones only where the
same judge and prompts gave both; both are stored with the result.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ..checkpoints.checkpoint_digest import checkpoint_digest
from ..datasets_scripts.folder_seal import seal_folder, write_whole
from ..datasets_scripts.instruction_json import find_media
from ..datasets_scripts.label_files import read_json
from ..modeling_lmmvqa import VideoQualityAssessmentPipeline
from ..scoring.chat import Chat
from ..scoring.report import failure_line
from .answer_lines import AnswerLines
from .judge import Judge


# The benchmark's files, and the aspects that are judged on each
ASPECTS = {
    "generic_qa": ("correctness", "detail", "context"),
    "temporal_qa": ("temporal",),
    "consistency_qa": ("consistency",),
}
ANSWERS_FILE, METRICS_FILE = "answers.jsonl", "metrics.json"
PROMPTS_FILE = Path(__file__).with_name("vcgbench_prompts.json")


@dataclass(frozen=True)
class OpenQuestion:
    """
    Attributes:
        id: file and number of the record.
        kind: one of `ASPECTS`.
        video: name, without suffix as the benchmark has it.
        questions: one, or of consistency_qa the same thing asked twice.
        reference: a person's answer.
    """

    id: str
    kind: str
    video: str
    questions: tuple[str, ...]
    reference: str


def read_questions(paths: list[str | Path]) -> list[OpenQuestion]:
    """
    Args:
        paths: of generic_qa.json, temporal_qa.json and consistency_qa.json, some or all of them.

    Raises:
        ValueError: a file of another name, or a record that lacks something.
    """
    questions = []
    for path in paths:
        kind = Path(path).stem
        if kind not in ASPECTS:
            raise ValueError(f"got {path}, expected some of {', '.join(f'{name}.json' for name in ASPECTS)}")
        asked = ("Q1", "Q2") if kind == "consistency_qa" else ("Q",)
        for number, record in enumerate(read_json(path), start=1):
            texts = [record.get(name) for name in (*asked, "A", "video_name")]
            if not all(isinstance(text, str) and text.strip() for text in texts):
                raise ValueError(
                    f"{path} record {number} has the keys {', '.join(record)}, expected text in {', '.join(asked)}, A "
                    "and video_name: correct it."
                )
            *of_record, reference, video = texts
            questions.append(OpenQuestion(f"{kind}-{number}", kind, video, tuple(of_record), reference))
    return questions


def answer_questions(
    scorer: VideoQualityAssessmentPipeline,
    questions: list[OpenQuestion],
    videos: str | Path,
    lines: AnswerLines,
    max_new_tokens: int,
) -> dict[str, str]:
    """
    Adds what is missing to the file of answers: {id, kind, video, questions, reference, answers}, or `error`.

    Returns:
        Question to the reason why it has no answer; it is tried again the next time.
    """
    names = list(dict.fromkeys(question.video for question in questions))
    found = dict(zip(names, find_media(names, videos), strict=True))
    failures = {question.id: found[question.video].reason for question in questions if found[question.video].reason}
    missing = [of for of in questions if of.id not in lines.lines and of.id not in failures]
    encoded = (None, None)  # questions about one video stand together, mostly
    for question in tqdm(missing, desc="answers", delay=3, disable=None):
        try:
            if encoded[0] != question.video:
                chat = Chat(scorer, [found[question.video].path], max_new_tokens)
                encoded = question.video, chat.videos
            answers = [Chat(scorer, encoded[1], max_new_tokens).ask(text) for text in question.questions]
        except Exception as failure:
            failures[question.id] = failure_line(failure)
            continue
        lines.add(vars(question) | {"questions": list(question.questions), "answers": answers})
    return failures


def judge_answers(judge: Judge, answers: AnswerLines, lines: AnswerLines) -> list[str]:
    """
    Adds what is missing to the file of scores: {id, aspect, score, reply}.

    Returns:
        What the judge gave no score to; it is asked again the next time.

    Raises:
        ValueError, OSError: see `Judge.score`; what was scored before stands in the file.
    """
    prompts = _prompts()
    wanted = [(line, aspect) for line in answers.lines.values() for aspect in ASPECTS[line["kind"]]]
    missing = [(line, aspect) for line, aspect in wanted if f"{line['id']} {aspect}" not in lines.lines]
    without_score = []
    for line, aspect in tqdm(missing, desc="judgements", delay=3, disable=None):
        score, reply = judge.score(prompts["system"], judge_prompt(line, aspect))
        name = f"{line['id']} {aspect}"
        if score is None:
            without_score.append(f"{name}: {reply[:200]!r}")
        else:
            lines.add({"id": name, "aspect": aspect, "score": score, "reply": reply})
    return without_score


def judge_prompt(line: dict, aspect: str) -> str:
    """
    Args:
        line: of the file of answers.
    """
    prompts = _prompts()
    filling = {"question": line["questions"][0], "reference": line["reference"], "answer": line["answers"][0]}
    if len(line["questions"]) == 1:
        return f"{prompts['aspects'][aspect]}\n\n{prompts['single'].format(**filling)}"
    filling |= {"second_question": line["questions"][1], "second_answer": line["answers"][1]}
    return f"{prompts['aspects'][aspect]}\n\n{prompts['pair'].format(**filling)}"


def prompts_digest() -> str:
    return hashlib.sha256(PROMPTS_FILE.read_bytes()).hexdigest()


def _prompts() -> dict:
    return json.loads(PROMPTS_FILE.read_text(encoding="utf-8"))


def evaluate_vcgbench(
    scorer: VideoQualityAssessmentPipeline,
    model: str,
    questions: list[str],
    videos: str,
    out: str,
    judge: Judge | None = None,
    max_new_tokens: int = 512,
) -> dict:
    """
    Answers and scores in the folder `out`, and their means in its `metrics.json`, which is returned. Run again, it goes on
    where it was. Without a judge the questions are answered alone; scores of another judge stand beside.

    Args:
        model: folder or repository of the scorer.
        questions: the benchmark's files.
        videos: folder of its videos.

    Raises:
        ValueError: wrong questions, or a folder of other answers.
        ValueError, OSError: see `Judge.score`.
    """
    asked, folder = read_questions(questions), Path(out)
    digest = hashlib.sha256(json.dumps([vars(question) for question in asked]).encode()).hexdigest()
    settings = {"model": checkpoint_digest(model), "questions": digest, "max_new_tokens": max_new_tokens}
    seal_folder(folder, settings, [ANSWERS_FILE])
    answers = AnswerLines(folder / ANSWERS_FILE)
    failures = answer_questions(scorer, asked, videos, answers, max_new_tokens)
    metrics = settings | {"asked": len(asked), "answered": len(answers.lines), "failures": failures}
    if judge is not None:
        judged_by = {"judge": judge.model, "prompts": prompts_digest()}
        name = hashlib.sha256(json.dumps(judged_by).encode()).hexdigest()[:16]
        scores = AnswerLines(folder / f"scores-{name}.jsonl")
        without_score = judge_answers(judge, answers, scores)
        metrics |= judged_by | {"without_score": without_score, "aspects": _means(scores)}
    write_whole(folder / METRICS_FILE, json.dumps(metrics, indent=1) + "\n")
    return metrics


def _means(scores: AnswerLines) -> dict[str, dict[str, float]]:
    of_aspects = {
        aspect: [line["score"] for line in scores.lines.values() if line["aspect"] == aspect]
        for aspects in ASPECTS.values()
        for aspect in aspects
    }
    return {aspect: {"n": len(of), "score": sum(of) / len(of)} for aspect, of in of_aspects.items() if of}
