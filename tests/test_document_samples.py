"""What documents show of the embedded model is made by benchmarks/document_samples.py, and of the weights that are there."""

import importlib
import json
import re
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# A score with its deviation, or a probability: what weights change
SHOWN = re.compile(r"\d ± \d|\"(score|probabilities|level_probabilities)\": \S*\d\.\d")


@pytest.fixture(scope="module")
def samples():
    pytest.importorskip("playwright.sync_api")
    pytest.importorskip("imageio_ffmpeg")
    pytest.importorskip("skimage")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        yield importlib.import_module("document_samples")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_shows_a_score_is_a_sample(document):
    blocks = re.findall(
        r"([^\n]*)\n```text\n(.*?)^```$", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert not [text for before, text in blocks if SHOWN.search(text) and not before.startswith("<!-- sample")]


def test_each_document_with_samples_has_a_folder(samples):
    with_samples = {
        str(path.relative_to(ROOT)) for path in DOCUMENTS if samples.SAMPLE.search(path.read_text("utf-8"))
    }
    assert with_samples <= samples.FOLDERS.keys()
    assert all((ROOT / name).is_file() for name in samples.FOLDERS)


def test_samples_are_of_the_weights_that_are_there():
    reference = json.loads((ROOT / "default_checkpoint" / "selfcheck.json").read_text(encoding="utf-8"))
    maintaining = (ROOT / "docs" / "maintaining.md").read_text(encoding="utf-8")
    assert f"\nweights {reference['weights']}\n" in maintaining, "run `make document-samples`"


ROW = {
    "score": 70.71875,
    "damage": {"blur": 0.1, "noise": 0.5, "none": 0.2, "freeze": 0.125, "black": 0.05, "h264": 0.02},
    "windows": [{"start": 0}, {"start": 1}, {"start": 2}, {"start": 3}],
    "seconds": 1.25,
}
DOCUMENT = """# A page

<!-- sample -->
```text
$ printf '2 videos, 0 without a score, 3.2 s\\n'; exit_with() { return $1; }; exit_with 3
of other weights
$ echo $?
$ echo clip.mp4,2.0,70.71875
```

<!-- sample: cat row.json -->
```text
```

```text
$ echo this is no sample
```
"""
RENEWED = """# A page

<!-- sample -->
```text
$ printf '2 videos, 0 without a score, 3.2 s\\n'; exit_with() { return $1; }; exit_with 3
2 videos, 0 without a score, … s
$ echo $?
3
$ echo clip.mp4,2.0,70.71875
clip.mp4,2.0,70.719
```

<!-- sample: cat row.json -->
```text
{"score": 70.719, "damage": {"noise": 0.500, "none": 0.200, "freeze": 0.125, ...}, "windows": [{"start": 0}, {"start": 1},
 {"start": 2}, ...], "seconds": …}
```

```text
$ echo this is no sample
```
"""


def test_samples_are_made_in_place(samples, tmp_path):
    (tmp_path / "row.json").write_text(json.dumps(ROW))
    assert samples.renewed(DOCUMENT, tmp_path) == RENEWED
    assert samples.renewed(RENEWED, tmp_path) == RENEWED


def test_a_command_that_fails_changes_nothing(samples, tmp_path):
    with pytest.raises(RuntimeError, match="no-such-program failed"):
        samples.renewed("<!-- sample -->\n```text\n$ no-such-program\n```\n", tmp_path)
