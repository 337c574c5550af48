"""Pictures and texts from shards and data sets, written here, to rows; what is wrong is named, and nothing else is lost."""

import io
import json
import tarfile

import datasets
import numpy as np
import pytest
from conftest import write_clip
from PIL import Image

from lmmvqa.commands.command_line import main
from lmmvqa.datasets_scripts.instruction_json import CAPTION_QUESTION
from lmmvqa.datasets_scripts.prepare import prepare
from lmmvqa.datasets_scripts.rows import LEFT_OUT_FILE, load_rows
from lmmvqa.processing.video_processing_lmmvqa import LmmVqaVideoProcessor


TALK = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A wall."}]


def picture(value: int, name: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((24, 32, 3), value, dtype=np.uint8)).save(file, name)
    return file.getvalue()


def write_shard(path, members: dict[str, bytes], mode: str = "w") -> str:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return str(path)


def left_out(folder) -> dict[str, str]:
    lines = map(json.loads, (folder / LEFT_OUT_FILE).read_text().splitlines())
    return {line["file"]: line["reason"] for line in lines}


def test_shards_of_every_kind_of_record(tmp_path, monkeypatch, capsys):
    clip = write_clip(tmp_path / "clip.mp4", num_frames=5, fps=10)
    first = write_shard(
        tmp_path / "0.tar",
        {
            "a.jpg": picture(10, "JPEG"), "a.txt": b"A dark wall.",
            "../b.png": picture(20), "../b.json": json.dumps({"conversations": TALK}).encode(),
            "c.json": b'{"caption": "Moving."}', "c.MP4": (tmp_path / "clip.mp4").read_bytes(),
        },
    )  # fmt: skip
    second = write_shard(tmp_path / "1.tar.gz", {"a.webp": picture(30, "WebP"), "a.txt": b"Lighter."}, "w:gz")
    assert main(["prepare", "image_text", "--sources", first, second, "--out", str(tmp_path / "rows")]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 4

    (tmp_path / "rows").rename(tmp_path / "moved")  # rows and pictures together
    rows = load_rows(tmp_path / "moved")["train"]
    assert [row["conversations"][1]["content"] for row in rows] == ["A dark wall.", "A wall.", "Moving.", "Lighter."]
    assert rows[0]["conversations"][0]["content"] == f"<video>\n{CAPTION_QUESTION}"
    assert rows[1]["conversations"][0]["content"] == "<video>\nWhat is it?"
    assert [row["group"] for row in rows][::3] == [f"{first} a", f"{second} a"]
    decoded = LmmVqaVideoProcessor(key_frame_size=32, chunk_size=32).decode([row["video"] for row in rows])
    assert [round(float(video.key_frames.mean()) / 10) for video in decoded][:2] == [1, 2]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0.tar", "1.tar.gz", clip.rpartition("/")[2], "moved"]


def test_what_is_wrong_is_named_by_shard_and_key(tmp_path):
    good = {"good.png": picture(10), "good.txt": b"A wall."}
    wrong = {
        "bytes.png": b"no picture", "bytes.txt": b"A wall.",
        "empty.png": picture(1), "empty.txt": b" ",
        "json.png": picture(1), "json.json": b"{",
        "list.png": picture(1), "list.json": b"[1]",
        "latin.png": picture(1), "latin.txt": b"\xff",
        "silent.png": picture(1),
        "talk.png": picture(1), "talk.json": json.dumps({"conversations": TALK[:1]}).encode(),
        "keys.png": picture(1), "keys.json": b'{"alt": "A wall."}',
    }  # fmt: skip
    shard = write_shard(tmp_path / "0.tar", wrong | good)
    whole = (tmp_path / "0.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: whole.index(b"good.txt") + 200])  # in a header
    (tmp_path / "middle.tar").write_bytes(whole[: whole.index(b"keys.png") + 600])  # in a file
    (tmp_path / "between.tar").write_bytes(whole[: whole.index(b"silent.png")])
    cut = [str(tmp_path / f"{name}.tar") for name in ("cut", "middle", "between")]
    gone = str(tmp_path / "gone.tar")
    (report,) = prepare("image_text", [shard, *cut, gone], tmp_path / "rows")
    reasons = left_out(tmp_path / "rows")
    assert (report["n"], report["missing"]) == (1, len(reasons)) and len(reasons) == 8 + (8 + 2) + (7 + 1) + (
        5 + 1
    ) + 1
    for key, reason in {
        "bytes": "not a video or picture",
        "empty": "has no text in turn 2",
        "json": "Expecting property name",
        "list": "has a list in its json",
        "latin": "can't decode byte 0xff",
        "silent": "has png, expected a picture or a video, and txt or json",
        "talk": "not human and gpt by turns",
        "keys": "has alt, expected text in one of",
    }.items():
        assert reason in reasons[f"{shard} {key}"]
    assert "after good: it ends without the block that closes it" in reasons[cut[0]]
    assert "has png, expected" in reasons[f"{cut[0]} good"]
    assert "after keys: unexpected end of data" in reasons[cut[1]]
    assert "after latin: it ends without" in reasons[cut[2]]
    assert "cannot be read after its beginning" in reasons[gone]
    assert len(list((tmp_path / "rows" / "media").iterdir())) == 1


def test_a_source_named_twice_is_refused(tmp_path):
    shard = write_shard(tmp_path / "0.tar", {"a.png": picture(10), "a.txt": b"A dark wall."})
    with pytest.raises(ValueError, match=f"got the source {shard} twice, expected each once"):
        prepare("image_text", [shard, shard], tmp_path / "rows")
    assert not (tmp_path / "rows").exists()


def test_a_data_set_is_streamed(tmp_path):
    table = {
        "image": [{"bytes": picture(10, "JPEG"), "path": None}, {"bytes": b"none", "path": None}, None] + [
            {"bytes": picture(20), "path": "b.png"}
        ] * 3,
        "caption": ["One.", "Two.", "Three.", "", "Five.", "Six."],
    }  # fmt: skip
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    (tmp_path / "set").mkdir()
    datasets.Dataset.from_dict(table, features=features).to_parquet(tmp_path / "set" / "train.parquet")
    source = str(tmp_path / "set")
    prepare("image_text", [source], tmp_path / "rows", limit=5, dataset="streamed")
    rows = load_rows(tmp_path / "rows")["train"]
    assert [(row["conversations"][1]["content"], row["group"]) for row in rows] == [
        ("One.", f"{source} record 1"),
        ("Five.", f"{source} record 5"),
    ]
    assert rows[0]["video"].endswith(".jpeg") and rows[0]["dataset"] == "streamed"
    reasons = left_out(tmp_path / "rows")
    assert "holds no picture: cannot identify" in reasons[f"{source} record 2"]
    assert reasons[f"{source} record 3"] == "holds no picture"
    assert "expected text in one of" in reasons[f"{source} record 4"] and len(reasons) == 3

    datasets.Dataset.from_dict({"url": ["http://a/b.png"], "caption": ["One."]}).to_parquet(
        tmp_path / "set" / "train.parquet"
    )
    with pytest.raises(ValueError, match="with the columns url, caption, expected one of pictures"):
        prepare("image_text", [source], tmp_path / "other")
