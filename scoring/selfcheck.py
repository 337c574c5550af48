"""Does this installation give the score that it should? One bundled clip and the weights against what the model came with."""

import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from transformers.utils import cached_file

from ..checkpoints.checkpoint_digest import weights_digest
from ..datasets_scripts.folder_seal import write_whole
from ..modeling_lmmvqa import VideoQualityAssessmentPipeline
from .scorer import score_videos


CLIP = Path(__file__).with_name("selfcheck.mp4")
REFERENCE_NAME = "selfcheck.json"
# Of 100. Scores of one video differ in the fifth digit between machines and numbers of threads, by more where something is wrong
TOLERANCE = 0.05


@dataclass
class SelfcheckReference:
    """What a model gives for the bundled clip, as `selfcheck.json` in its folder or repository.

    Attributes:
        score, score_std: as in `QualityResult`.
        tolerance: largest difference of scores that still passes.
        weights: `weights_digest`; None in files from before there was one.
    """

    score: float
    score_std: float
    tolerance: float = TOLERANCE
    weights: str | None = None


def read_reference(model: str) -> SelfcheckReference:
    """
    Raises:
        OSError: the model has no reference.
    """
    try:
        file = cached_file(model, REFERENCE_NAME)
    except OSError as error:
        raise FileNotFoundError(
            f"got no {REFERENCE_NAME} with {model}, expected the reference to compare with; write it with "
            "`lmmvqa selfcheck --update` where the model is known to be right"
        ) from error
    return SelfcheckReference(**json.loads(Path(file).read_text(encoding="utf-8")))


def write_reference(scorer: VideoQualityAssessmentPipeline, folder: str) -> SelfcheckReference:
    """Makes the present score of the bundled clip, and the present weights, the reference of the model in this folder."""
    result = scorer(str(CLIP))
    lowest, highest = result["scale"] or (0, 100)
    tolerance = TOLERANCE * (highest - lowest) / 100
    figures = round(result["score"], 4), round(result["score_std"], 4), round(tolerance, 7)
    reference = SelfcheckReference(*figures, weights_digest(folder))
    text = json.dumps(asdict(reference), indent=2) + "\n"
    write_whole(Path(folder) / REFERENCE_NAME, text)
    return reference


def run_selfcheck(scorer: VideoQualityAssessmentPipeline, reference: SelfcheckReference, model: str) -> bool:
    """
    Prints versions, the reference, whether the weights are its own, the score of the bundled clip and the verdict; True
    where all agree.

    Args:
        model: folder or repository that the scorer was loaded from.
    """
    packages = ("lmmvqa", "torch", "transformers", "av")
    print(", ".join(f"{package} {version(package)}" for package in packages))
    print(f"reference  {reference.score:.4f} ± {reference.score_std:.4f}")
    has_its_weights = reference.weights in (None, weights_digest(model))
    if reference.weights is None:
        print("weights    not compared: the reference holds no digest of them; `lmmvqa selfcheck --update` adds it")
    else:
        verdict = "ok" if has_its_weights else "FAILED: not those of the reference; copy or download them again"
        print(f"weights    {reference.weights[:16]} expected: {verdict}")
    (row,) = score_videos(scorer, [str(CLIP)])
    if row["error"] is not None:
        print(f"FAILED: {row['error']}")
        return False
    print(f"score      {row['score']:.4f} ± {row['score_std']:.4f}")
    difference = abs(row["score"] - reference.score)
    agrees = difference <= reference.tolerance
    print(f"difference {difference:.4f}, at most {reference.tolerance} expected: {'ok' if agrees else 'FAILED'}")
    return agrees and has_its_weights
