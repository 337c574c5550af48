"""Open questions and their judge, a real server on loopback that answers well, badly, late, or not at all."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import tiny_pair, write_clip
from test_chat import scorer_of

from lmmvqa.checkpoints.export import save_checkpoint
from lmmvqa.evaluation import judge as judge_module
from lmmvqa.evaluation.judge import KEY_VARIABLE, Judge, read_score
from lmmvqa.evaluation.vcgbench import ASPECTS, evaluate_vcgbench, judge_prompt, prompts_digest, read_questions


def completion(text) -> bytes:
    message = {"role": "assistant", "content": text}
    return json.dumps({"id": "1", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()


@contextmanager
def server(*replies, then='{"score": 3}', port=0):
    """Replies in order, and `then` after them: text, a status with headers, or a function of the handler."""
    waiting, requests = list(replies), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.append((self.path, self.headers["Authorization"], body))
            reply = waiting.pop(0) if waiting else then
            if callable(reply):
                reply = reply(self)
            if reply is None:  # the connection is closed without an answer
                self.close_connection = True
                return
            status, headers, content = (200, {}, completion(reply)) if isinstance(reply, str) else reply
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(content))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}/v1", requests
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


# the judge


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('{"score": 4}', 4),
        ('```json\n{"score": 4.5}\n```', 4.5),
        ('Here it is: {"score": 0}. I hope it helps.', 0),
        ('{"score": 6}', None),
        ('{"score": -1}', None),
        ('{"score": "4"}', None),
        ('{"score": true}', None),
        ('{"score": NaN}', None),
        ('{"grade": 4}', None),
        ('{"score": 4} or {"score": 2}', None),
        ("{score: 4}", None),
        ("4", None),
        ("", None),
    ],
)
def test_only_one_number_from_0_to_5_is_a_score(reply, expected):
    assert read_score(reply) == expected


def test_a_request_and_its_key(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with server() as (url, requests):
        assert Judge(url, "small").score("You judge.", "How good?") == (3, '{"score": 3}')
        monkeypatch.setenv(KEY_VARIABLE, "sk-mine")
        Judge(f"{url}/chat/completions", "small").score("You judge.", "How good?")
    assert [request[:2] for request in requests] == [
        ("/v1/chat/completions", "Bearer none"),  # the Hub's token stays here
        ("/v1/chat/completions", "Bearer sk-mine"),
    ]
    body = requests[0][2]
    assert body["model"] == "small" and body["temperature"] == 0
    assert [message["content"] for message in body["messages"]] == ["You judge.", "How good?"]


@pytest.mark.parametrize(
    "bad",
    [
        "I think four.",
        (200, {}, b"<html>"),
        (200, {}, b"{}"),
        (200, {}, b'{"choices": []}'),
        (200, {}, b'{"choices": [{"message": {"content": null}}]}'),
    ],
)
def test_a_bad_answer_is_asked_for_again_three_times_in_all(bad):
    with server(bad, bad) as (url, requests):
        assert Judge(url, "small").score("", "?")[0] == 3 and len(requests) == 3
    with server(then=bad) as (url, requests):
        assert Judge(url, "small").score("", "?")[0] is None and len(requests) == 3


@pytest.mark.parametrize(
    "refusal",
    [
        (429, {"Retry-After": "0"}, b"slow down"),
        (429, {}, b"slow down"),
        (500, {}, b"oops"),
        (503, {"Retry-After": "tomorrow"}, b"later"),
        lambda handler: None,
        lambda handler: time.sleep(0.5) or "{}",
    ],
)
def test_what_passes_is_waited_for(refusal):
    with server(refusal, refusal) as (url, requests):
        judge = Judge(url, "small", timeout=0.2 if callable(refusal) else 5.0, first_wait=0.01)
        assert judge.score("", "?")[0] == 3 and len(requests) == 3


def test_each_wait_is_longer_and_a_server_may_say_how_long(monkeypatch):
    waits = []
    monkeypatch.setattr(judge_module.time, "sleep", waits.append)
    refused = (429, {}, b"")
    with server(refused, (429, {"Retry-After": "7"}, b""), (429, {"Retry-After": "9999"}, b""), refused) as (url, _):
        Judge(url, "small").score("", "?")
    assert waits == [1, 7, 60, 8]


def test_what_does_not_pass_ends_at_once():
    with server((401, {}, b"no such key")) as (url, requests):
        with pytest.raises(ValueError, match=f"got status 401 .* look at .*{KEY_VARIABLE}: no such key"):
            Judge(url, "small").score("", "?")
        assert len(requests) == 1
    with pytest.raises(ValueError, match="begins with http"):
        Judge("localhost:8000", "small")


# the benchmark


def write_questions(folder) -> list[str]:
    """In the benchmark's own form, videos without suffix."""
    names = ["v_a", "v_b"]
    for seed, name in enumerate(names):
        write_clip(folder / f"{name}.mp4", seed=seed)
    generic = [
        {"Q": f"What is {{{number}}}?", "A": "Stripes.", "video_name": names[number // 2]} for number in range(3)
    ]
    files = {
        "generic_qa": generic,
        "temporal_qa": [{"Q": "What comes first?", "A": "Left, then right.", "video_name": "v_a"}],
        "consistency_qa": [
            {"Q1": "What?", "Q2": "Which thing?", "A": "Stripes.", "video_name": "v_gone"},
            {"Q1": "What?", "Q2": "Which thing?", "A": "Stripes.", "video_name": "v_b"},
        ],
    }
    for name, records in files.items():
        (folder / f"{name}.json").write_text(json.dumps(records), encoding="utf-8")
    return [str(folder / f"{name}.json") for name in files]


def test_wrong_question_files(tmp_path):
    files = write_questions(tmp_path)
    assert [question.kind for question in read_questions(files)] == [
        *["generic_qa"] * 3, "temporal_qa", *["consistency_qa"] * 2,
    ]  # fmt: skip
    with pytest.raises(ValueError, match="expected some of generic_qa.json"):
        read_questions([tmp_path / "mine.json"])
    (tmp_path / "temporal_qa.json").write_text(json.dumps([{"Q": "What?", "A": "", "video_name": "v_a"}]))
    with pytest.raises(
        ValueError, match="temporal_qa.json record 1 has the keys Q, A, video_name, expected text in Q"
    ):
        read_questions([tmp_path / "temporal_qa.json"])


def test_answers_and_scores_go_on_where_they_were(tmp_path):
    files = write_questions(tmp_path)
    model, processor = tiny_pair()
    save_checkpoint(model, processor, tmp_path / "model")
    scorer, out = scorer_of(model, processor), tmp_path / "out"
    given = (scorer, str(tmp_path / "model"), files, str(tmp_path), str(out))

    metrics = evaluate_vcgbench(*given, max_new_tokens=8)
    assert metrics["answered"] == 5 and "aspects" not in metrics
    assert "v_gone.mp4, nor" in metrics["failures"]["consistency_qa-1"] or "no such file" in str(metrics["failures"])
    # A server that is killed after two scores: nothing of them is lost
    with server('{"score": 5}', '{"score": 4}', then=lambda handler: None) as (url, _):
        judge = Judge(url, "small", first_wait=0.01)
        with pytest.raises(OSError, match="got no answer from the judge .* in 6 attempts .* goes on where it was"):
            evaluate_vcgbench(*given, judge, max_new_tokens=8)
    with pytest.raises(OSError, match="Connection refused"):
        evaluate_vcgbench(*given, judge, max_new_tokens=8)
    port = int(url.split(":")[2].split("/")[0])
    with server("nonsense", "nonsense", "nonsense", port=port) as (url, requests):
        metrics = evaluate_vcgbench(*given, judge, max_new_tokens=8)
        assert len(requests) == 9 + 2 and len(metrics["without_score"]) == 1
        assert metrics["without_score"][0].endswith("'nonsense'")
        metrics = evaluate_vcgbench(*given, judge, max_new_tokens=8)  # what had no score is asked again
        assert len(requests) == 9 + 2 + 1
    assert [metrics["aspects"][aspect]["score"] for aspect in ("correctness", "detail")] == pytest.approx(
        [11 / 3, 10 / 3]
    )
    assert {aspect: of["n"] for aspect, of in metrics["aspects"].items()} == {
        "correctness": 3, "detail": 3, "context": 3, "temporal": 1, "consistency": 1,
    }  # fmt: skip
    assert metrics["judge"] == "small" and metrics["prompts"] == prompts_digest() and not metrics["without_score"]
    with server() as (url, requests):  # all is known
        assert evaluate_vcgbench(*given, Judge(url, "small"), max_new_tokens=8) == metrics and not requests
        # Another judge's scores stand beside
        evaluate_vcgbench(*given, Judge(url, "large"), max_new_tokens=8)
        assert len(requests) == 11 and len(list(out.glob("scores-*.jsonl"))) == 2
    with pytest.raises(ValueError, match="which was begun with max_new_tokens 8"):
        evaluate_vcgbench(*given, None, max_new_tokens=9)


def test_what_a_judge_reads():
    line = {"questions": ["What {is} it?"], "reference": "Stripes.", "answers": ["A {wall}."]}
    prompt = judge_prompt(line, "detail")
    assert prompt.startswith("Aspect: detail orientation.")
    assert prompt.endswith("Question: What {is} it?\nReference answer: Stripes.\nModel's answer: A {wall}.")
    pair = {"questions": ["What?", "Which?"], "reference": "Stripes.", "answers": ["A wall.", "Lines."]}
    assert "answer to the second: Lines." in judge_prompt(pair, "consistency")
    assert len({judge_prompt(line, aspect) for of in ASPECTS.values() for aspect in of}) == 5
