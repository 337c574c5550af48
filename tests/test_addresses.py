"""Videos behind addresses, of a server in this process and of fsspec's own store in memory."""

import json
import re
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pytest
from conftest import full_disk, write_clip

from lmmvqa.commands.command_line import main
from lmmvqa.scoring import addresses
from lmmvqa.scoring.addresses import address_version, check_readers, downloaded, is_address


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path):
    """The address of a folder with one clip."""
    write_clip(tmp_path / "a.mp4", num_frames=30)
    (tmp_path / "text.mp4").write_text("no video")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_what_is_an_address():
    for name in ("http://a/b.mp4", "HTTPS://a", "s3://a", "gs://a", "hf://a"):
        assert is_address(name)
    for name in ("a.mp4", "file:///etc/passwd", "ftp://a", "rtsp://a", "C:\\a.mp4", "./http://a", "memory://a"):
        assert not is_address(name)


def test_an_address_scores_as_its_file_does(server, model, tmp_path, capsys):
    out = tmp_path / "rows.jsonl"
    videos = [f"{server}/a.mp4", str(tmp_path / "a.mp4"), f"{server}/text.mp4", f"{server}/gone.mp4"]
    command = ["score", "--model", model, "--device", "cpu", "--json", "--out", str(out), *videos]
    assert main(command) == 1
    remote, local, text, gone = map(json.loads, capsys.readouterr().out.splitlines())
    assert [row["video"] for row in (remote, local, text, gone)] == videos
    assert remote["score"] == local["score"] and remote["size"] == local["size"]
    assert remote["modified"].endswith("GMT")
    assert text["error"].startswith(f"Could not read {server}/text.mp4: ")
    assert gone["error"] and gone["size"] is None
    assert main(command) == 1
    again = json.loads(capsys.readouterr().out.splitlines()[0])
    assert again == remote  # from the journal


def test_a_file_that_is_too_large_is_a_row(server, model, capsys):
    command = ["score", "--model", model, "--device", "cpu", "--json", f"{server}/a.mp4"]
    assert main([*command, "--max_download", "1000"]) == 1
    assert "larger than 1000 bytes, expected no more" in json.loads(capsys.readouterr().out)["error"]


def test_what_is_copied_has_no_name_and_a_bound(monkeypatch):
    monkeypatch.setattr(addresses, "_open_store", lambda address: (*fsspec.url_to_fs(address), {}))
    with fsspec.open("memory://a.bin", "wb") as file:
        file.write(bytes(3 * addresses.BLOCK))
    with downloaded("memory://a.bin", 3 * addresses.BLOCK) as file:
        assert file.name == "memory://a.bin" and len(file.read()) == 3 * addresses.BLOCK
    with pytest.raises(ValueError, match="memory://a.bin: it is larger"), downloaded("memory://a.bin", 1e6):
        pytest.fail("copied")
    with pytest.raises(TimeoutError, match="takes more than -1 s"), downloaded("memory://a.bin", 1e9, max_seconds=-1):
        pytest.fail("copied")
    assert address_version("memory://a.bin") == {"size": 3 * addresses.BLOCK, "modified": None}


def test_a_full_disk_is_said_and_no_part_is_scored(monkeypatch):
    monkeypatch.setattr(addresses, "_open_store", lambda address: (*fsspec.url_to_fs(address), {}))
    with fsspec.open("memory://a.bin", "wb") as file:
        file.write(bytes(5000))
    sentence = f"memory://a.bin: File too large in {tempfile.gettempdir()}, expected space for a temporary file"
    with full_disk(3000), pytest.raises(OSError, match=re.escape(sentence)), downloaded("memory://a.bin", 1e6):
        pytest.fail("cut short")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("none.mp4", "there is no such file;"),
        ("mine.mp4", "the server answers 403 Forbidden;"),
        ("cut.mp4", "the transfer was cut;"),
        (None, "Connect call"),
    ],
)
def test_what_a_store_does_not_give_is_said_in_a_sentence(name, why):
    class Cut(Quiet):
        def do_GET(self):
            if self.path != "/cut.mp4":
                return self.send_error(403 if self.path == "/mine.mp4" else 404)
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"begun" if self.command == "GET" else b"")

        do_HEAD = do_GET

    with ThreadingHTTPServer(("127.0.0.1", 0), Cut) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/{name}" if name else "http://127.0.0.1:1/a.mp4"
        said = f"^Could not read {re.escape(address)}: {re.escape(why)}.*expected a whole file"
        with pytest.raises(ValueError, match=said), downloaded(address, 1e6):
            pytest.fail("given")
        server.shutdown()


def test_a_store_whose_package_is_missing_is_said_at_once(monkeypatch, capsys, tmp_path):
    def missing(scheme):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(SystemExit) as exit_:
        main(["score", "s3://bucket/a.mp4"])
    assert exit_.value.code == 2
    error = "got an address s3://, expected what reads it to be installed: Install s3fs to access S3"
    assert error in capsys.readouterr().err
    check_readers(["a.mp4", "/b"])


def test_the_stores_of_addresses_are_known():
    for scheme in ("http", "https", "hf"):
        check_readers([f"{scheme}://a/b"])


def test_python_opens_no_address(tiny, server):
    _, processor = tiny
    with pytest.raises(ValueError, match="it is an address, expected the path of a file; download it first"):
        processor.video_processor.decode(f"{server}/a.mp4")
