"""Short rationales by rule, from what was done to a video and its MOS: what `--stage explain` learns."""

from ..processing.answers_lmmvqa import DAMAGE_ANSWERS


SEEN_STRENGTH = 0.5  # of a damage on 0-5: one below it is none
# From which strength on a damage is said to be how bad
ADVERBS = {3.0: "heavily", 1.5: "clearly", SEEN_STRENGTH: "slightly"}
MOST_NAMED = 3


def rationale(strengths: dict[str, float], mos: float) -> str:
    """
    "It suffers heavily from blur and slightly from noise. Score: 23.": the strongest kinds first, and the score last, so that
    it follows from what was said.

    Args:
        strengths: kind of damage (`DAMAGES`) to 0-5.
        mos: 0-100.
    """
    seen = sorted((kind for kind in strengths if strengths[kind] >= SEEN_STRENGTH), key=lambda kind: -strengths[kind])
    phrases = [f"{_adverb(strengths[kind])} from {DAMAGE_ANSWERS[kind]}" for kind in seen[:MOST_NAMED]]
    *first, last = phrases or ["from no damage that is seen"]
    faults = f"{', '.join(first)} and {last}" if first else last
    return f"It suffers {faults}. Score: {round(mos)}."


def _adverb(strength: float) -> str:
    return next(adverb for lowest, adverb in ADVERBS.items() if strength >= lowest)
