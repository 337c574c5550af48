"""200 clients at a time: `lmmvqa serve` on the loopback device loses nothing, mixes nothing up, and keeps its memory.

`python benchmarks/serve.py --clients 200 --rounds 3 --out FILE`

A tiny random model and clips of moving gratings, made here, each of its own width and number of frames, by which its row
is known again. The server is a process of its own that takes fewer videos at a time than there are clients; who is told
that it is busy comes back when it said. The last round has clients among them that send no video, too many bytes, or
half a video and go away. It ends with status 1 where a row is missing, another's or of another score than the clip has
alone, or where something is left open.
"""

import argparse
import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import httpx
import torch


ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from conftest import tiny_pair, write_clip  # noqa: E402

from lmmvqa.checkpoints.export import save_checkpoint  # noqa: E402
from lmmvqa.scoring.scorer import load_scorer  # noqa: E402


MAX_BYTES = 1_000_000
MAX_REQUESTS = 64
OPTIONS = ["--device", "cpu", "--max-requests", str(MAX_REQUESTS), "--max-batch", "8", "--max-bytes", str(MAX_BYTES)]
CHECKED = 40  # clips of which the score alone is known too
KINDS = ("clip", "no video", "too large", "goes away")


def make_clips(folder: Path, number: int) -> list[dict]:
    """Clips with what their rows have to say."""
    clips = []
    for index in range(number):
        width, frames = 64 + 2 * (index % 50), 5 + index // 50
        path = write_clip(folder / f"{index}.mp4", num_frames=frames, size=(width, 48), seed=index)
        clips.append({"name": f"{index}.mp4", "data": Path(path).read_bytes(), "width": width, "frames": frames})
    return clips


def memory(process: subprocess.Popen) -> dict[str, float]:
    """Mebibytes of a process now and at most, and its open files."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    sizes = {name: round(int(re.search(rf"{name}:\s+(\d+)", status)[1]) / 1024, 1) for name in ("VmRSS", "VmHWM")}
    return sizes | {"open_files": len(os.listdir(f"/proc/{process.pid}/fd"))}


async def ask(client: httpx.AsyncClient, clip: dict, kind: str, seen: Counter) -> bool:
    """Sends one clip until the server has a place for it; whether the answer is the right one."""
    if kind == "goes away":
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        head = f"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: {len(clip['data'])}\r\n\r\n"
        writer.write(head.encode() + clip["data"][: len(clip["data"]) // 2])
        await writer.drain()
        await asyncio.sleep(0.2)
        writer.close()
        return True
    data = {"clip": clip["data"], "no video": b"no video", "too large": bytes(MAX_BYTES + 1)}[kind]
    while True:
        answer = await client.post("/v1/score", content=data, params={"name": clip["name"]})
        seen[str(answer.status_code)] += 1
        if answer.status_code != 503:
            break
        await asyncio.sleep(int(answer.headers["retry-after"]))
    row = answer.json()
    if kind != "clip":
        return answer.status_code == {"no video": 422, "too large": 413}[kind]
    names = {"video": "name", "width": "width", "frames": "frames"}
    is_own = answer.status_code == 200 and all(row[name] == clip[of_clip] for name, of_clip in names.items())
    return is_own and abs(row["score"] - clip.get("score", row["score"])) < 1e-3


async def run_round(address: str, clips: list[dict], kinds: list[str]) -> dict:
    limits = httpx.Limits(max_connections=None)
    seen, started = Counter(), time.perf_counter()
    async with httpx.AsyncClient(base_url=address, timeout=None, limits=limits) as client:
        right = await asyncio.gather(*(ask(client, clip, kind, seen) for clip, kind in zip(clips, kinds, strict=True)))
    seconds = round(time.perf_counter() - started, 1)
    return {"clients": dict(Counter(kinds)), "right": sum(right), "statuses": dict(seen), "seconds": seconds}


def start_server(folder: Path) -> tuple[subprocess.Popen, str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "lmmvqa.commands", "serve", "--model", str(folder / "checkpoint"), *OPTIONS]
    environment = os.environ | {"TMPDIR": str(folder / "temporary")}
    with open(folder / "log", "w") as log:
        command += ["--port", str(port)]
        process = subprocess.Popen(command, env=environment, stderr=log, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    while True:
        if process.poll() is not None:
            raise RuntimeError((folder / "log").read_text())
        try:
            httpx.get(f"{address}/health", timeout=60).raise_for_status()
            return process, address
        except httpx.ConnectError:
            time.sleep(0.5)


def main(argv: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200, help="at a time")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", help="JSON file for the result")
    arguments = parser.parse_args(argv)
    report = {
        "command": " ".join(["python", "benchmarks/serve.py", *(sys.argv[1:] if argv is None else argv)]),
        "versions": {
            name: version(name) for name in ("lmmvqa", "torch", "transformers", "av", "fastapi", "gradio", "uvicorn")
        },
        "server": " ".join(["lmmvqa serve", *OPTIONS]),
    }
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        (folder / "temporary").mkdir()
        save_checkpoint(*tiny_pair(), folder / "checkpoint", torch.float32)
        clips = make_clips(folder, arguments.clients)
        scorer = load_scorer(str(folder / "checkpoint"), "cpu")
        for clip in clips[:CHECKED]:
            clip["score"] = scorer(str(folder / clip["name"]))["score"]
        process, address = start_server(folder)
        try:
            asyncio.run(run_round(address, clips[:8], ["clip"] * 8))
            report["memory_before"] = memory(process)
            report["rounds"] = []
            for index in range(arguments.rounds):
                is_last = index == arguments.rounds - 1
                kinds = [
                    KINDS[place % 8] if is_last and place % 8 in (1, 2, 3) else "clip" for place in range(len(clips))
                ]
                found = asyncio.run(run_round(address, clips, kinds)) | {"memory_after": memory(process)}
                report["rounds"].append(found)
                print(json.dumps(found), flush=True)
            time.sleep(1)
            metrics = httpx.get(f"{address}/metrics").text
            lines = re.findall(r"^(lmmvqa_(?!\w+_created)\S+) (\S+)$", metrics, re.MULTILINE)
            report["metrics"] = {name: float(value) for name, value in lines if "_bucket" not in name}
            report["files_left"] = [path.name for path in (folder / "temporary").rglob("*") if path.is_file()]
        finally:
            process.terminate()
            process.wait()
    if arguments.out:
        Path(arguments.out).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


if __name__ == "__main__":
    result = main()
    is_right = all(found["right"] == sum(found["clients"].values()) for found in result["rounds"])
    is_clean = not result["files_left"] and result["metrics"]["lmmvqa_in_flight"] == 0
    sys.exit(not (is_right and is_clean))
