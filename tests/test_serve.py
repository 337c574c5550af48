"""`lmmvqa serve`: uploads of many clients at a time, what is refused, and that nothing stays behind."""

import contextlib
import errno
import functools
import http.server
import importlib.util
import json
import os
import re
import socket
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import tiny_pair, write_clip
from transformers import pipeline

from lmmvqa.commands import serve as serve_command
from lmmvqa.commands.command_line import main
from lmmvqa.modeling_lmmvqa import VideoQualityAssessmentPipeline
from lmmvqa.scoring import addresses


# Every worker reads this file: Gradio takes seconds to import, and is imported by the one that runs it
if importlib.util.find_spec("gradio") is None:
    pytest.skip("needs pip install 'lmmvqa[serve]'", allow_module_level=True)

import httpx  # noqa: E402
import uvicorn  # noqa: E402
from fastapi.routing import iter_route_contexts  # noqa: E402
from starlette.routing import Mount  # noqa: E402

from lmmvqa.serving.batching import Batcher  # noqa: E402
from lmmvqa.serving.limits import ServerLimits  # noqa: E402
from lmmvqa.serving.result_html import result_html  # noqa: E402
from lmmvqa.serving.samples import SAMPLES, render_sample  # noqa: E402


PATIENCE = 120  # seconds
get, send = (functools.partial(function, timeout=PATIENCE) for function in (httpx.get, httpx.post))
LIMITS = ServerLimits(max_bytes=300_000, max_seconds=4, max_requests=16)


@pytest.fixture(scope="module")
def scorer():
    model, processor = tiny_pair()
    return pipeline(
        "video-quality-assessment", model=model, processor=processor, pipeline_class=VideoQualityAssessmentPipeline
    )


class Held:
    """A scorer that waits until it may go on, and says what it was given; `failures` are what names make it raise."""

    def __init__(self, scorer):
        self.processor, self._scorer = scorer.processor, scorer
        self.may_go_on, self.batches, self.failures = threading.Event(), [], {}

    def __call__(self, files, **options):
        self.batches.append([file.name for file in files])
        assert self.may_go_on.wait(60)
        for file in files:
            if failure := self.failures.get(file.name):
                raise failure
        return self._scorer(files, **options)


@pytest.fixture
def held(scorer):
    held = Held(scorer)
    yield held
    held.may_go_on.set()


@contextlib.contextmanager
def running(scorer, limits=LIMITS):
    """The address and the application of a server on the loopback device."""
    from lmmvqa.serving.server import make_app

    app = make_app(scorer, limits)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            address = f"http://127.0.0.1:{listening.getsockname()[1]}"
            until(lambda: server.started)
            yield address, app
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def address(scorer):
    with running(scorer) as (address, _):
        yield address


def until(condition):
    """Waits for it."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def post(address, data, **parameters):
    return send(f"{address}/v1/score", content=data, params=parameters)


def metric(address, name):
    found = re.search(rf"^{re.escape(name)} (\S+)$", get(f"{address}/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def deleted_files():
    """Names of files that this process holds open although they are deleted."""
    links = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(f"/proc/self/fd/{name}"))
    return [link for link in links if link.startswith(tempfile.gettempdir()) and link.endswith("(deleted)")]


def test_an_upload_gets_the_row_that_the_command_prints(address, scorer, clips):
    answer = post(address, Path(clips[1]).read_bytes(), name="walk.mp4")
    assert answer.status_code == 200
    row, expected = answer.json(), scorer(clips[1])
    assert row["video"] == "walk.mp4" and row["error"] is None and row["seconds"] > 0
    assert row["score"] == pytest.approx(expected["score"], abs=1e-3)
    assert {name: row[name] for name in ("level", "frames", "duration")} == {
        name: expected[name] for name in ("level", "frames", "duration")
    }
    assert row["problems"] is None
    assert isinstance(post(address, Path(clips[1]).read_bytes(), problems=True).json()["problems"], list)


def test_what_is_no_video_is_a_row_with_the_reason(address, tmp_path):
    secret = tmp_path / "secret.mp4"
    write_clip(secret)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{secret}\n"
    concat = f"ffconcat version 1.0\nfile {secret}\n"
    assert post(address, b"no video", name=str(secret)).status_code == 422
    for data, reason in (("no video", "Invalid data"), (playlist, "playlist"), (concat, "list of files")):
        answer = post(address, data.encode(), name="notes.mp4")
        assert answer.status_code == 422
        assert answer.json()["score"] is None
        assert re.match(f"Could not read notes.mp4: .*{reason}", answer.json()["error"])


def test_too_long(address, tmp_path):
    data = Path(write_clip(tmp_path / "long.mp4", num_frames=150)).read_bytes()
    answer = post(address, data)
    assert answer.status_code == 422
    assert "it lasts 5 s or more, expected at most 4 s" in answer.json()["error"]


def test_too_large_whether_the_size_is_announced_or_not(address):
    parts = (bytes(50_000) for _ in range(10))
    for data in (bytes(300_001), parts):
        answer = post(address, data)
        assert answer.status_code == 413
        assert answer.json()["error"].startswith("got more than 300000 bytes")


def test_who_is_refused_while_it_sends_gets_the_answer(held):
    with running(held, ServerLimits(max_requests=1, max_bytes=1_000_000)) as (address, _):
        large = bytes(20_000_000)
        assert post(address, large).status_code == 413
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(post, address, b"no video")
            until(lambda: held.batches)
            assert post(address, large).status_code == 503
            assert send(f"{address}/v1/score", params={"url": "/etc/passwd"}, content=large).status_code == 503
            held.may_go_on.set()
            assert first.result().status_code == 422


def test_wrong_use(address, tmp_path, clips):
    form = send(f"{address}/v1/score", files={"file": Path(clips[0]).read_bytes()})
    assert form.status_code == 415 and "--data-binary" in form.json()["error"]
    assert post(address, b"").status_code == 400
    answer = post(address, b"x", problems="perhaps")
    assert answer.status_code == 400 and "problems" in answer.json()["error"]
    for url in ("http://127.0.0.1:1/clip.mp4", "/etc/passwd", "file:///etc/passwd", "C:\\clip.mp4"):
        answer = send(f"{address}/v1/score", params={"url": url})
        assert answer.status_code == 403, url
        assert "download it first" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/v1/none", "/v1/samples/none.mp4", "/healthy"])
def test_a_path_that_is_none_is_answered_with_an_error(address, path):
    answer = get(f"{address}{path}")
    assert answer.status_code == 404 and answer.json()["error"].startswith("got ")


@pytest.mark.parametrize("method", ["GET", "PUT", "OPTIONS", "TRACE", "FOO", "DISPATCH"])
def test_a_method_that_is_none_is_answered_with_those_there_are(address, method):
    with httpx.Client(base_url=address, timeout=PATIENCE) as client:
        answer = client.request(method, "/v1/score")
        assert answer.status_code == 405 and answer.headers["allow"] == "POST"
        assert answer.json() == {"error": f"got {method} /v1/score, expected POST; see /openapi.json"}
        answer = client.request(method, "/v1/none")
        assert answer.status_code == 404
        assert answer.json() == {
            "error": f"got {method} /v1/none, expected a path that /openapi.json describes; see there"
        }
        if method != "GET":
            for path in ("/health", "/metrics", "/v1/samples/clean.mp4"):
                assert client.request(method, path).headers["allow"] == "GET"


def test_names_are_words_and_no_paths(address, clips, tmp_path):
    name = "../../etc/<b>passwd\n"
    answer = post(address, Path(clips[0]).read_bytes(), name=name)
    assert answer.json()["video"] == name
    page = send(
        f"{address}/v1/score",
        params={"name": name, "problems": True},
        content=Path(clips[2]).read_bytes(),
        headers={"accept": "text/html"},
    )
    assert page.headers["content-type"].startswith("text/html")
    assert "../../etc/&lt;b&gt;passwd\\n</h2>" in page.text
    assert "<b>passwd" not in page.text


def test_addresses_of_allowed_stores_alone(scorer, clips, monkeypatch):
    def full(file, block):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folder = os.path.dirname(clips[0])
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as files:
        threading.Thread(target=files.serve_forever, daemon=True).start()
        store = f"http://127.0.0.1:{files.server_port}"
        with running(scorer, ServerLimits(allow_urls=(store,))) as (address, _):
            ask = functools.partial(send, f"{address}/v1/score")
            good = ask(params={"url": f"{store}/2s.mp4"})
            assert good.status_code == 200 and good.json()["frames"] == 60
            none = ask(params={"url": f"{store}/none.mp4"})
            assert none.status_code == 502 and "there is no such file" in none.json()["error"]
            monkeypatch.setattr(addresses, "write_whole_block", full)
            assert ask(params={"url": f"{store}/2s.mp4"}).status_code == 507
            for url in (
                f"http://127.0.0.1:{files.server_port}0/2s.mp4",
                f"http://a@127.0.0.1:{files.server_port}/2s.mp4",
            ):
                assert ask(params={"url": url}).status_code == 403
        files.shutdown()
    for store in ("https://example.org/folder", "example.org"):
        with pytest.raises(ValueError, match="expected a scheme and a host alone"):
            ServerLimits(allow_urls=(store,))


def test_busy(held, clips):
    data = Path(clips[0]).read_bytes()
    with running(held, ServerLimits(max_requests=2)) as (address, _), ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(post, address, data) for _ in range(2)]
        until(lambda: metric(address, "lmmvqa_in_flight") == 2)
        answer = post(address, data)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert "more than 2 videos" in answer.json()["error"]
        assert get(f"{address}/health").status_code == 200
        held.may_go_on.set()
        assert [each.result().status_code for each in waiting] == [200, 200]
        assert post(address, data).status_code == 200
        assert metric(address, 'lmmvqa_requests_total{outcome="busy"}') == 1
        assert metric(address, 'lmmvqa_requests_total{outcome="scored"}') == 3
        assert metric(address, "lmmvqa_in_flight") == 0


def request_head(name, length):
    return f"POST /v1/score?name={name} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()


def test_a_client_that_goes_away_leaves_nothing(held, clips, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    data = Path(clips[0]).read_bytes()
    with running(held, ServerLimits(max_batch=1)) as (address, _), ThreadPoolExecutor(1) as pool:
        host = ("127.0.0.1", int(address.rpartition(":")[2]))
        first = pool.submit(post, address, data, name="first")
        until(lambda: held.batches == [["first"]])
        in_upload, in_queue = socket.create_connection(host), socket.create_connection(host)
        in_upload.sendall(request_head("upload", len(data)) + data[:1000])
        in_queue.sendall(request_head("queued", len(data)) + data)
        until(lambda: metric(address, "lmmvqa_in_flight") == 3)
        assert len(deleted_files()) == 3
        in_upload.close()
        in_queue.close()
        until(lambda: metric(address, 'lmmvqa_requests_total{outcome="gone"}') == 2)
        until(lambda: metric(address, "lmmvqa_in_flight") == 1)
        held.may_go_on.set()
        assert first.result().status_code == 200
        assert post(address, data, name="last").status_code == 200
        assert held.batches == [["first"], ["last"]]
        until(lambda: not deleted_files())
    assert os.listdir(tmp_path) == []


def test_a_client_that_goes_away_while_its_video_is_scored(held, clips):
    data = Path(clips[0]).read_bytes()
    with running(held) as (address, _):
        client = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])))
        client.sendall(request_head("gone", len(data)) + data)
        until(lambda: held.batches == [["gone"]])
        client.close()
        until(lambda: metric(address, 'lmmvqa_requests_total{outcome="gone"}') == 1)
        assert metric(address, "lmmvqa_in_flight") == 1  # its place is taken as long as it costs
        held.may_go_on.set()
        until(lambda: metric(address, "lmmvqa_in_flight") == 0)


def test_slow_uploads_end(scorer, clips):
    with running(scorer, ServerLimits(max_upload_seconds=0.2)) as (address, _):
        client = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])))
        client.sendall(request_head("slow", 1000) + b"abc")
        assert b"408" in client.recv(1000).splitlines()[0]
        client.close()


def test_every_client_gets_the_row_of_its_own_video(scorer, tmp_path):
    sizes = [(64 + 2 * index, 48) for index in range(16)]
    clips = [write_clip(tmp_path / f"{size[0]}.mp4", num_frames=10, size=size, seed=size[0]) for size in sizes]
    data = [Path(clip).read_bytes() for clip in clips] + [b"no video"] * 4
    alone = [scorer(clip)["score"] for clip in clips]
    with (
        running(scorer, ServerLimits(max_requests=len(data), max_batch=3)) as (address, _),
        ThreadPoolExecutor(len(data)) as pool,
    ):
        answers = list(
            pool.map(lambda item: post(address, item[1], name=item[0], problems=item[0] % 2), enumerate(data))
        )
        assert metric(address, "lmmvqa_batch_videos_sum") == len(data)
    for index, answer in enumerate(answers):
        row = answer.json()
        assert row["video"] == str(index)
        if index < len(sizes):
            assert (row["width"], row["height"]) == sizes[index]
            assert row["score"] == pytest.approx(alone[index], abs=1e-3)
            assert (row["problems"] is not None) == bool(index % 2)
        else:
            assert answer.status_code == 422


def test_what_waits_is_scored_together(held, clips):
    from lmmvqa.serving.batching import Batcher

    looks_for_problems = (False, False, False, False, False, True)
    with Batcher(held, max_batch=3) as batcher, contextlib.ExitStack() as stack:
        files = [stack.enter_context(open(clips[0], "rb")) for _ in looks_for_problems]
        futures = [batcher.submit(files[0], False)]
        until(lambda: held.batches)
        futures += map(batcher.submit, files[1:], looks_for_problems[1:])
        held.may_go_on.set()
        rows = [future.result(60) for future in futures]
    assert [len(batch) for batch in held.batches] == [1, 3, 1, 1]
    assert [row["problems"] is not None for row in rows] == list(looks_for_problems)


def test_what_one_video_raises_is_its_own(held, clips):
    held.failures = {"bad": MemoryError("too much")}
    held.may_go_on.set()
    with Batcher(held, 3) as batcher, contextlib.ExitStack() as stack:
        files = []
        for name in ("one", "bad", "two"):
            file = stack.enter_context(tempfile.TemporaryFile(buffering=0))
            file.write(Path(clips[0]).read_bytes())
            file.name = name
            files.append(file)
        rows = [future.result(60) for future in [batcher.submit(file, False) for file in files]]
    assert [row["video"] for row in rows] == ["one", "bad", "two"]
    assert [row["error"] for row in rows] == [None, "MemoryError: too much", None]
    assert rows[0]["score"] == rows[2]["score"]


def test_health_says_when_nothing_is_scored_any_more(scorer):
    with running(scorer) as (address, app):
        assert get(f"{address}/health").json()["status"] == "ok"
        app.state.scores.batcher.__exit__()
        assert get(f"{address}/health").status_code == 503


SHOWN = {
    "/",
    "/config",
    "/config/",
    "/theme.css",
    "/robots.txt",
    "/gradio_api/info",
    "/assets/x",
    "/static/x",
    "/favicon.ico",
    "/manifest.json",
    "/openapi.json",
}


def test_gradio_answers_nothing_but_the_page(scorer):
    with running(scorer) as (address, app), httpx.Client(base_url=address, timeout=PATIENCE) as client:
        (page,) = [route.app for route in app.routes if isinstance(route, Mount)]
        routes = [route for route in iter_route_contexts(page.routes) if route.methods]
        dangerous = {"/gradio_api/upload", "/gradio_api/file={path_or_url:path}", "/gradio_api/proxy={url_path:path}"}
        assert dangerous <= {route.path for route in routes}
        for route in routes:
            path = re.sub(r"\{[^}]*\}", "x", route.path)
            for method in route.methods:
                if path in SHOWN and method in ("GET", "HEAD"):
                    continue
                assert client.request(method, path).status_code in (404, 405), (method, path)
        for path in (
            "/gradio_api/file=/etc/passwd",
            "/file=/etc/passwd",
            "/static/../../etc/passwd",
            "/assets/%2e%2e/x",
        ):
            assert client.get(path).status_code in (403, 404), path
        assert "/v1/score" in client.get("/openapi.json").json()["paths"]


def test_the_page_and_its_samples(address):
    page = get(f"{address}/").text
    assert "v1/score" in page
    config = get(f"{address}/config").text
    assert "up to 0.3 MB, 4 s" in config
    assert all(f'data-sample=\\"{name}\\"' in config for name in SAMPLES)
    for name in SAMPLES:
        assert get(f"{address}/v1/samples/{name}.mp4").content == render_sample(name)
    assert get(f"{address}/v1/samples/none.mp4").status_code == 404


def test_a_result_shows_windows_and_problems(scorer, tmp_path):
    sample = tmp_path / "faulty.mp4"
    sample.write_bytes(render_sample("faulty"))
    row = {"video": "faulty.mp4", "error": None, "seconds": 0.5} | scorer(str(sample), problems=True)
    assert {problem["kind"] for problem in row["problems"]} >= {"freeze", "black"}
    windows = [
        {"start": 0, "end": 2, "score": 60.0, "level": "good"},
        {"start": 2, "end": 2.5025, "score": 20.0, "level": "poor"},
    ]
    row |= {"windows": windows, "worst_window": windows[1]}
    page = result_html(row)
    assert 'class="window worst" data-time="2" title="2-2.5 s: 20.0"' in page
    assert "Worst: 2-2.5 s with 20.0" in page and "<span>2.5 s</span>" in page
    assert '<span>freeze</span><div class="track"><button data-time="1.0' in page
    assert f"<b>{row['score']:.1f}</b>" in page and "damaged" not in page.partition("<details>")[0]
    page = result_html(row | {"frames": 10, "damaged_frames": 21, "lost_frames": 20})
    assert "21 of 30 frames damaged or lost" in page


def test_the_command_says_what_is_missing_or_taken(monkeypatch, capsys, model):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SystemExit, match="2"):
        main(["serve", "--model", model, "--port", str(taken.getsockname()[1])])
    assert re.search(r"got --host 127.0.0.1 --port \d+, .*: Address already in use", capsys.readouterr().err)
    with pytest.raises(SystemExit, match="2"):
        main(["serve", "--max-batch", "0"])
    assert "max_batch=0, expected at least 1" in capsys.readouterr().err
    monkeypatch.setattr(serve_command, "LIBRARIES", ("no_such_library",))
    with pytest.raises(SystemExit, match="2"):
        main(["serve"])
    assert "pip install 'lmmvqa[serve]'" in capsys.readouterr().err


def test_the_documented_api_is_the_one_that_answers(address):
    described = json.loads(get(f"{address}/openapi.json").text)["paths"]["/v1/score"]["post"]
    assert {"400", "403", "408", "413", "415", "422", "502", "503", "507"} <= described["responses"].keys()
    assert [parameter["name"] for parameter in described["parameters"]] == ["name", "problems", "url"]
