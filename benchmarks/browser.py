"""Scores of the page in browser/, in headless Chromium, beside those of the command line.

`lmmvqa export --onnx --out browser/model && npm install --prefix browser`, then
`python benchmarks/browser.py CLIP ... --out benchmarks/results/browser.json`.
A server on this machine hands the page's modules, the model and the clips to Chromium and is told the results.
"""

import argparse
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path

from lmmvqa.checkpoints.checkpoint_digest import weights_digest
from lmmvqa.scoring.scorer import default_checkpoint, load_scorer, score_videos


BROWSER = Path(__file__).parents[1] / "browser"
CHROMIUM = ("chromium", "google-chrome", "chromium-browser")
# As index.html does with a file that is chosen
PAGE = """<!doctype html>
<video playsinline style="width: 480px"></video>
<script type="module">
  import { Scorer } from "/scorer.mjs";
  const tell = (result) => fetch("/result", { method: "POST", body: JSON.stringify(result) });
  const scorer = await Scorer.load("/model").catch((error) => tell({ error: `model: ${error.message}` }));
  for (let index = 0; index < COUNT; index++) {
    try {
      const address = URL.createObjectURL(await (await fetch(`/videos/${index}`)).blob());
      const start = performance.now();
      const result = await scorer.score(document.querySelector("video"), address);
      await tell({ ...result, seconds: (performance.now() - start) / 1000 });
    } catch (error) {
      await tell({ error: `${error.name}: ${error.message}` });
    }
  }
</script>
"""


class Handler(SimpleHTTPRequestHandler):
    """The files of browser/, `/measure.html`, the model, the videos by number, and what the page posts to `/result`."""

    def __init__(self, *arguments, model: Path, videos: list[str], results: queue.Queue):
        self.model, self.videos, self.results = model, videos, results
        super().__init__(*arguments, directory=BROWSER)

    def do_GET(self):
        if self.path == "/measure.html":
            page = PAGE.replace("COUNT", str(len(self.videos))).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)
        else:
            super().do_GET()

    def translate_path(self, path: str) -> str:
        if path.startswith("/videos/"):
            return self.videos[int(path.removeprefix("/videos/"))]
        if path.startswith("/model/"):
            return str(self.model / path.removeprefix("/model/"))
        return super().translate_path(path)

    def do_POST(self):
        self.results.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments):
        pass


def find_chromium() -> str | None:
    return next(filter(None, map(shutil.which, CHROMIUM)), None)


def score_in_browser(model: str | Path, videos: list[str], seconds: float = 600) -> Iterator[dict]:
    """
    Yields what the page makes of each video, {"error"} where it fails.

    Args:
        model: folder of `export_onnx`.
        seconds: that a video may take at most.

    Raises:
        TimeoutError: it takes longer, or Chromium does not start.
    """
    results = queue.Queue()
    handler = partial(Handler, model=Path(model), videos=[os.path.abspath(video) for video in videos], results=results)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, tempfile.TemporaryDirectory() as profile:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [
            *(find_chromium(), "--headless=new", "--no-sandbox", "--disable-gpu", "--mute-audio"),
            *("--autoplay-policy=no-user-gesture-required", f"--user-data-dir={profile}"),
            f"http://127.0.0.1:{server.server_port}/measure.html",
        ]
        log = Path(profile) / "log.txt"
        with open(log, "w") as file:
            chromium = subprocess.Popen(command, stdout=file, stderr=file)
        try:
            for _ in videos:
                yield results.get(timeout=seconds)
        except queue.Empty as error:
            raise TimeoutError(
                f"got no result of the page within {seconds} s; Chromium said {log.read_text()[-1000:]}"
            ) from error
        finally:
            chromium.terminate()
            chromium.wait(30)
            server.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", help="files that Chromium plays", metavar="FILE")
    parser.add_argument("--model", help="checkpoint folder or repository that was exported (default: embedded)")
    parser.add_argument("--onnx", default=str(BROWSER / "model"), help="folder of lmmvqa export --onnx", metavar="DIR")
    parser.add_argument("--out", help="JSON file for the figures")
    arguments = parser.parse_args()
    of_page = score_in_browser(arguments.onnx, arguments.videos)
    rows = []
    for row, page in zip(score_videos(load_scorer(arguments.model, "cpu"), arguments.videos), of_page, strict=True):
        names = ("score", "frames", "missed_frames", "seconds", "error")
        found = {name: page[name] for name in names if name in page}
        rows.append({"video": Path(row["video"]).name, "command_line": row["score"], "page": found})
        if "score" in page:
            rows[-1]["difference"] = page["score"] - row["score"]
        print(json.dumps(rows[-1]), flush=True)
    differences = [abs(row["difference"]) for row in rows if "difference" in row]
    ort = json.loads((BROWSER / "package.json").read_text(encoding="utf-8"))["dependencies"]["onnxruntime-web"]
    report = {
        "date": time.strftime("%Y-%m-%d"),
        "weights": weights_digest(arguments.model or default_checkpoint()),
        "versions": {
            "chromium": subprocess.run([find_chromium(), "--version"], capture_output=True, text=True).stdout.strip(),
            "onnxruntime-web": ort,
            **{package: version(package) for package in ("lmmvqa", "torch", "av", "onnxscript")},
        },
        "load average": os.getloadavg()[0],
        "scored": len(differences),
        "largest difference": max(differences),
        "mean difference": sum(differences) / len(differences),
        "videos": rows,
    }
    print(json.dumps({name: report[name] for name in ("scored", "largest difference", "mean difference")}))
    if arguments.out:
        Path(arguments.out).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
