"""Questions with choices, as Q-Bench has them: the model's own distribution over the choices, no text and no judge.

Choices are lettered, and each question is asked once with each choice first, rotated. So a model that prefers a letter is
found out, and its preference cancels: the answer is the choice of the highest mean log probability. Yes-or-no questions
are asked as they are. A small decoder that knows the answer may not know what letters are for: in words, the choices
are not listed, and they are the answers themselves.
"""

import hashlib
import json
import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase

import torch
from tqdm import tqdm

from ..checkpoints.checkpoint_digest import checkpoint_digest
from ..datasets_scripts.folder_seal import seal_folder, write_whole
from ..datasets_scripts.instruction_json import find_media
from ..datasets_scripts.label_files import read_json
from ..modeling_lmmvqa import VideoQualityAssessmentPipeline
from ..processing.processing_lmmvqa import VIDEO_MARK
from ..scoring.report import failure_line
from ..training.feature_cache import FeatureCache
from .answer_lines import AnswerLines


ANSWERS_FILE, METRICS_FILE = "answers.jsonl", "metrics.json"
# Keys of a record; the first that is there is taken
VIDEO_KEYS = ("video", "video_name", "video_path", "image", "img_path")
CHOICE_KEYS = ("candidates", "choices", "options")
ANSWER_KEYS = ("correct_ans", "answer", "correct_answer")
KIND_KEYS = ("kind", "type", "question_type")
YES_NO = {"yes", "no"}


@dataclass(frozen=True)
class ChoiceQuestion:
    """
    Attributes:
        kind: of question; figures are given for each.
        answer: place of the right choice.
    """

    id: str
    video: str
    question: str
    choices: tuple[str, ...]
    answer: int
    kind: str

    @property
    def is_yes_no(self) -> bool:
        return {choice.lower().rstrip(".") for choice in self.choices} == YES_NO

    def rotations(self, in_words: bool = False) -> list[tuple[str, list[str], list[int]]]:
        """
        What is asked each time, the answers to it, and which choice each of them means.

        Args:
            in_words: the question is asked once, without its choices, which are the answers.
        """
        if in_words:
            return [(f"{self.question}\nAnswer briefly.", list(self.choices), list(range(len(self.choices))))]
        if self.is_yes_no:
            return [(f"{self.question}\nAnswer with yes or no.", list(self.choices), [0, 1])]
        count, asked = len(self.choices), []
        for first in range(count):
            order = [(first + place) % count for place in range(count)]
            listed = [
                f"{letter}. {self.choices[choice]}" for letter, choice in zip(ascii_uppercase, order, strict=False)
            ]
            text = "\n".join([self.question, *listed, "Answer with the letter of the right choice."])
            asked.append((text, list(ascii_uppercase[:count]), order))
        return asked


def read_choice_questions(path: str | Path) -> list[ChoiceQuestion]:
    """
    The questions of a JSON list of records {video, question, candidates, correct_ans, kind}; other names of the same
    are taken too, such as those of Q-Bench. The right answer is a choice's text, or its letter.

    Raises:
        ValueError: a record lacks something, or its answer is none of its choices.
    """
    questions = []
    for number, record in enumerate(read_json(path), start=1):
        where = f"{path} record {number}"
        video, question, choices, answer = (
            next((record[key] for key in keys if record.get(key)), None)
            for keys in (VIDEO_KEYS, ("question",), CHOICE_KEYS, ANSWER_KEYS)
        )
        if not all(isinstance(text, str) for text in (video, question, answer)) or not isinstance(choices, list):
            raise ValueError(
                f"{where} has the keys {', '.join(record)}, expected {VIDEO_KEYS[0]}, question, {CHOICE_KEYS[0]} (a list) "
                f"and {ANSWER_KEYS[0]}: correct it."
            )
        choices = [str(choice).strip() for choice in choices]
        letters = list(ascii_uppercase[: len(choices)])
        named = choices if answer.strip() in choices else letters
        if (
            answer.strip() not in named
            or not 2 <= len(choices) <= len(ascii_uppercase)
            or len(set(choices)) < len(choices)
        ):
            raise ValueError(
                f"{where} has the answer {answer!r} to the choices {choices}, expected one of two or more different "
                "choices, or its letter: correct it."
            )
        kind = next((str(record[key]) for key in KIND_KEYS if record.get(key)), "all")
        questions.append(
            ChoiceQuestion(str(number), video, question, tuple(choices), named.index(answer.strip()), kind)
        )
    return questions


@torch.no_grad()
def choice_log_probabilities(
    scorer: VideoQualityAssessmentPipeline, video, question: ChoiceQuestion, in_words: bool = False
) -> list[list[float]]:
    """
    Log probabilities of the choices, in their own order, in each rotation.

    Args:
        video: encoded.
        in_words: see `ChoiceQuestion.rotations`.

    Raises:
        ValueError: a question that does not fit into the decoder's context.
    """
    model, processor = scorer.model, scorer.processor
    max_positions = model.config.get_text_config().max_position_embeddings
    of_rotations = []
    for text, answers, order in question.rotations(in_words):
        turns = [{"role": "user", "content": f"{VIDEO_MARK}\n{text}"}]
        answer_ids = []
        for answer in answers:
            chat, is_answer = processor.conversation_token_ids([*turns, {"role": "assistant", "content": answer}])
            answer_ids.append([token for token, of_answer in zip(chat, is_answer, strict=True) if of_answer][:-1])
        prompt = processor.conversation_prompt(turns, add_generation_prompt=True)
        shown = processor.fit_videos([video], prompt, max_positions, max(map(len, answer_ids)))
        inputs = processor(shown, text=[prompt]).to(model.device)
        (log_probabilities,) = model.answer_log_probabilities(answer_ids, **inputs).tolist()
        of_rotations.append([log_probabilities[order.index(choice)] for choice in range(len(answers))])
    return of_rotations


def evaluate_multiple_choice(
    scorer: VideoQualityAssessmentPipeline,
    model: str,
    questions: str,
    videos: str,
    out: str,
    in_words: bool = False,
    cache: FeatureCache | None = None,
) -> dict:
    """
    Answers in the folder `out`, and figures in its `metrics.json`, which is returned. Run again, it goes on where it was.

    Args:
        model: folder or repository of the scorer.
        questions: see `read_choice_questions`.
        videos: folder of the videos.
        in_words: see `ChoiceQuestion.rotations`.
        cache: features in place of videos.

    Raises:
        ValueError: wrong questions, or a folder of other answers.
    """
    asked, folder = read_choice_questions(questions), Path(out)
    digest = hashlib.sha256(Path(questions).read_bytes()).hexdigest()
    settings = {"model": checkpoint_digest(model), "questions": digest}
    settings |= {"in_words": True} if in_words else {}
    seal_folder(folder, settings, [ANSWERS_FILE])
    lines = AnswerLines(folder / ANSWERS_FILE)
    missing = [question for question in asked if question.id not in lines.lines]
    failures, encoded = {}, (None, None)  # questions about one video stand together, mostly
    found = find_media([question.video for question in missing], videos)
    for question, file in tqdm(list(zip(missing, found, strict=True)), desc="questions", delay=3, disable=None):
        try:
            if file.reason:
                raise ValueError(f"{file.path}: {file.reason}")
            if encoded[0] != file.path:
                if cache is None:
                    (of_file,) = scorer.processor.video_processor.encode(file.path, scorer.model)
                else:
                    of_file = cache[file.path]
                encoded = file.path, of_file
            of_rotations = choice_log_probabilities(scorer, encoded[1], question, in_words)
        except Exception as failure:
            failures[question.id] = failure_line(failure)
            continue
        lines.add(vars(question) | {"choices": list(question.choices), "log_probabilities": of_rotations})
    metrics = settings | {"asked": len(asked), "failures": failures} | figures(list(lines.lines.values()))
    write_whole(folder / METRICS_FILE, json.dumps(metrics, indent=1) + "\n")
    return metrics


def figures(lines: list[dict]) -> dict:
    """
    Of all questions and of each kind: `accuracy` with its 95 % interval and `chance`; `accuracy_of_a_rotation` and
    `same_in_all_rotations`, which are lower the more the place of a choice counts; `letters`, how often each letter was
    the answer over all rotations, where an even share would be without preference.

    Args:
        lines: of the file of answers.
    """
    of_kinds = defaultdict(list)
    for line in lines:
        of_kinds["all"].append(line)
        if line["kind"] != "all":
            of_kinds[line["kind"]].append(line)
    return {"kinds": {kind: _figures(of_kind) for kind, of_kind in of_kinds.items()}}


def _figures(lines: list[dict]) -> dict:
    right = of_rotations = num_rotations = num_same = 0
    letters = Counter()
    for line in lines:
        rotations = torch.tensor(line["log_probabilities"])  # (rotations, choices)
        chosen = rotations.argmax(-1).tolist()
        right += int(rotations.mean(0).argmax()) == line["answer"]
        of_rotations += sum(choice == line["answer"] for choice in chosen)
        num_rotations += len(chosen)
        num_same += len(set(chosen)) == 1
        if len(chosen) > 1:
            letters.update(ascii_uppercase[(choice - first) % len(chosen)] for first, choice in enumerate(chosen))
    count = len(lines)
    return {
        "n": count,
        "accuracy": right / count,
        "interval": wilson_interval(right, count),
        "chance": sum(1 / len(line["choices"]) for line in lines) / count,
        "accuracy_of_a_rotation": of_rotations / num_rotations,
        "same_in_all_rotations": num_same / count,
        "letters": {letter: number / letters.total() for letter, number in sorted(letters.items())},
    }


def wilson_interval(right: int, count: int, z: float = 1.96) -> list[float]:
    """Of a share of so many, at 95 %: [Wilson, 1927](https://doi.org/10.1080/01621459.1927.10502953)."""
    share, width = right / count, z**2 / count
    middle = (share + width / 2) / (1 + width)
    half = z / (1 + width) * math.sqrt(share * (1 - share) / count + width / (4 * count))
    return [max(0.0, middle - half), min(1.0, middle + half)]
