"""Runs transformers' own test suites and its linter on LMM-VQA's classes.

    pip install 'lmmvqa[suites]' --constraint constraints.txt
    python benchmarks/transformers_suites.py

The suites (ModelTesterMixin, ConfigTester, ProcessorTesterMixin) come from the source distribution of the installed
transformers, into a temporary folder; `transformers_suites/` beside this file says how they are applied to our classes.
GenerationTesterMixin is not in the source distribution. Needs a package index, and no other network.

Writes benchmarks/results/transformers_suites.json; the exit status is 1 where a test failed or the linter found what is
not argued for in `ARGUMENTS`.
"""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import defaultdict
from pathlib import Path

import pytest
import transformers
from PIL import Image


ROOT = Path(__file__).resolve().parent.parent
ADAPTERS = Path(__file__).resolve().with_suffix("")
RESULT = ROOT / "benchmarks/results/transformers_suites.json"

# What the suites import and the source distribution leaves out
STUBS = {
    "tests/__init__.py": "",
    "tests/models/__init__.py": "",
    "tests/exporters/__init__.py": "",
    "tests/exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "tests/generation/__init__.py": "",
    "tests/generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    "tests/utils/__init__.py": "",
    "tests/utils/test_configuration_utils.py": (
        "config_common_kwargs = {'return_dict': False, 'output_hidden_states': True, 'dtype': 'float16',\n"
        "    'chunk_size_feed_forward': 5, 'architectures': ['LmmVqaModel'], 'problem_type': 'regression'}\n"
    ),
    # Clips and pictures of the Hub that the processor's suite asks for by address
    "utils/fetch_hub_objects_for_ci.py": (
        "import os\n"
        "def url_to_local_path(url):\n"
        "    return os.path.join(os.path.dirname(__file__), 'clip.mp4' if url.endswith('.mp4') else 'picture.png')\n"
    ),
    "pytest.ini": "[pytest]\n",
}

# Why a rule of the linter does not hold here
ARGUMENTS = {
    "TRF016": (
        "The linter reads `preprocess` alone. The flags act in `_statistics`, which it calls; "
        "test_rescaling_and_normalisation_can_be_left_out sets each."
    ),
    "TRF035": "The import that nothing uses makes `save_pretrained` copy the pipeline's file: it copies what is imported.",
    "TRF041": (
        "It asks which released checkpoints take each side of a branch on the configuration. These branches are the "
        "paper's ablations; LmmVqaConfig documents each with its equation or table, and "
        "test_every_combination_of_options runs them all."
    ),
    "TRF051": (
        "The comparison dispatches nothing: it refuses implementations that cannot take the mask that the answer tree "
        "needs, instead of giving wrong probabilities."
    ),
    "TRF057": (
        "The generated documentation would be of arguments that differ from transformers' own: the docstrings are "
        "written out."
    ),
}


class Recorder:
    """A pytest plugin that counts outcomes. A test with a failed subtest has failed; passed subtests count apart."""

    def __init__(self):
        self.failed, self.passed, self.subtests = set(), set(), 0
        self.skipped = defaultdict(list)  # reason: tests

    def pytest_runtest_logreport(self, report):
        is_subtest = isinstance(report, pytest.SubtestReport)
        if report.failed:
            self.failed.add(report.nodeid)
        elif report.skipped:
            reason = report.longrepr[2].removeprefix("Skipped: ")
            self.skipped[reason].append(report.nodeid.partition("::")[2].replace("::", "."))
        elif report.when == "call" and is_subtest:
            self.subtests += 1
        elif report.when == "call":
            self.passed.add(report.nodeid)


def unpack(folder: Path) -> None:
    """The source distribution's tests, what they miss and our adapters, as the package `tests` in a folder."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "transformers"]
    subprocess.run([*command, "--dest", folder, f"transformers=={transformers.__version__}"], check=True)
    (archive,) = folder.glob("transformers-*.tar.gz")
    with tarfile.open(archive) as sources:
        sources.extractall(folder, filter="data")
    shutil.move(folder / archive.name.removesuffix(".tar.gz") / "tests", folder / "tests")
    for name, text in STUBS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    shutil.copytree(ADAPTERS, folder / "tests/models/lmmvqa")

    sys.path[:0] = [str(folder), str(ROOT / "tests")]
    from conftest import write_clip

    write_clip(folder / "utils/clip.mp4")
    Image.new("RGB", (32, 32)).save(folder / "utils/picture.png")


def run_suites() -> dict:
    recorder = Recorder()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unpack(folder)
        os.chdir(folder)
        options = ["-c", "pytest.ini", "-q", "--tb=short", "-W", "ignore", "-p", "no:cacheprovider"]
        status = pytest.main([*options, "tests/models/lmmvqa"], plugins=[recorder])
        os.chdir(ROOT)
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise SystemExit(f"pytest ended with {status!r}, expected it to run all tests; see its output above")
    return {
        "passed": len(recorder.passed - recorder.failed),
        "failed": sorted(recorder.failed),
        "skipped": sum(len(tests) for tests in recorder.skipped.values()),
        "subtests_passed": recorder.subtests,
        "reasons": {reason: sorted(tests) for reason, tests in sorted(recorder.skipped.items())},
    }


def run_linter() -> dict:
    folders = {"modeling_lmmvqa": ["*_lmmvqa.py", "modeling_*.py"], "processing": ["*_lmmvqa.py"]}
    files = {str(path) for folder, names in folders.items() for name in names for path in Path(folder).glob(name)}
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "findings.json"
        command = [Path(sys.executable).with_name("mlinter"), "--no-progress", "--no-cache", "--output-json", output]
        subprocess.run([*command, *sorted(files)], stdout=subprocess.DEVNULL)
        findings = json.loads(output.read_text())["findings"]
    return {
        "version": importlib.metadata.version("transformers-mlinter"),
        "findings": [f"{found['path']}: {found['message']}" for found in findings],
        "arguments": {rule: ARGUMENTS.get(rule) for rule in sorted({found["rule"] for found in findings})},
    }


def main() -> int:
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.chdir(ROOT)
    linter = run_linter()
    result = {"transformers": transformers.__version__, **run_suites(), "mlinter": linter}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    counts = {name: result[name] for name in ("passed", "failed", "skipped", "subtests_passed")}
    print(json.dumps(counts | {"mlinter": len(linter["findings"])}))
    return 1 if result["failed"] or None in linter["arguments"].values() else 0


if __name__ == "__main__":
    sys.exit(main())
