"""`transformers serve` of an exported folder, in a process that knows no LMM-VQA, asked over loopback."""

import base64
import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from conftest import tiny_pair
from PIL import Image
from transformers import pipeline
from transformers.utils.import_utils import is_serve_available

from lmmvqa.checkpoints.export import export_checkpoint


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_serve_available(), reason="needs pip install 'transformers[serving]'"),
]
QUESTIONS = {
    "quality": {"type": "score", "criteria": ["bad", "poor", "fair", "good", "excellent"]},
    "level": {"type": "choice", "criteria": {"poor": None, "fair": None, "good": None}},
}
START = "from transformers.cli.transformers import main; main()"


def ask(address: str, request: dict | None = None) -> tuple[int, dict]:
    body = None if request is None else json.dumps(request).encode()
    headers = {"Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(address, body, headers), timeout=200) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.fixture(scope="module")
def scorer():
    model, processor = tiny_pair()
    return pipeline("video-quality-assessment", model=model, processor=processor)


@pytest.fixture(scope="module")
def served(scorer, tmp_path_factory):
    """Address and model of a server that runs."""
    folder = tmp_path_factory.mktemp("served") / "tiny"
    export_checkpoint(scorer.model, scorer.processor, folder, "# A tiny model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(folder.parent), "OMP_NUM_THREADS": "1"}
    command = [
        "serve",
        str(folder),
        "--trust-remote-code",
        "--device",
        "cpu",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    server = subprocess.Popen([sys.executable, "-c", START, *command], env=environment, cwd=folder.parent)
    try:
        for _ in range(280):
            with socket.socket() as connection:
                if connection.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None
            time.sleep(1)
        yield f"http://127.0.0.1:{port}/v1/systemone", str(folder)
    finally:
        server.terminate()
        server.wait(60)


def asset(data: bytes, kind: str) -> dict:
    return {"type": kind, "format": "?", "data_base64": base64.b64encode(data).decode()}


def test_pictures_and_videos_are_answered(served, scorer, clips):
    address, model = served
    file = io.BytesIO()
    Image.effect_noise((64, 48), 80).convert("RGB").save(file, "PNG")
    for shown in (asset(file.getvalue(), "image"), asset(Path(clips[2]).read_bytes(), "video")):
        request = {"state": "clip", "assets": {"clip": shown}, "questions": QUESTIONS}
        status, answer = ask(address, {"model": model, **request})
        assert status == 200 and answer["usage"]["input_tokens"] > 0
        expected = scorer.decide(request)
        for name in QUESTIONS:
            found = answer["answers"][name]["probabilities"]
            assert found == pytest.approx(expected[name]["probabilities"], abs=1e-4)


@pytest.mark.parametrize(
    "changed, reason",
    [
        ({"assets": {"clip": asset(b"no video", "video")}}, "Could not read the given BytesIO"),
        ({"assets": {"clip": {"path": "/etc/passwd"}}}, "got an asset with path, expected a file in it"),
        ({"questions": {"cat": {"type": "noul", "instructions": "A cat?"}}}, "the model has learned nothing else"),
    ],
)
def test_what_cannot_be_answered_is_said(served, changed, reason):
    address, model = served
    request = {"model": model, "state": "clip", "assets": {"clip": asset(b"", "video")}, "questions": QUESTIONS}
    status, answer = ask(address, request | changed)
    assert status == 400 and reason in answer["detail"]
