"""What a caller may give: one video or many, frame rates, columns, pictures, chats, and what is refused."""

import base64
import io
import json
import re
import shlex
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from conftest import tiny_pair, write_clip
from PIL import Image
from transformers import BatchFeature, pipeline
from transformers.pipelines.pt_utils import KeyDataset
from transformers.video_utils import VideoMetadata, load_video

from lmmvqa.commands.command_line import main
from lmmvqa.modeling_lmmvqa import LmmVqaVideoProcessor
from lmmvqa.processing import VideoDecodingError
from lmmvqa.training.data_collator import LmmVqaDataCollator


DOCUMENT = (Path(__file__).resolve().parents[1] / "docs/inputs.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def frames():
    """One second: (30, 24, 32, 3), no channel like another."""
    return np.random.default_rng(0).integers(0, 256, (30, 24, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def grey(frames):
    return frames[..., :1]


@pytest.fixture(scope="module")
def processor(tiny):
    return tiny[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, frames):
    folder = tmp_path_factory.mktemp("inputs")
    write_clip(folder / "clip.mp4")
    Image.fromarray(frames[0]).save(folder / "picture.png")
    return folder


@pytest.fixture
def in_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)


def decoded(processor, *given, **options):
    """Key frames, clips and seconds of each video."""
    videos = processor.video_processor.decode(*given, **options)
    return [(video.key_frames, video.clips, video.seconds) for video in videos]


def assert_same(processor, given, expected, **options):
    for one, other in zip(decoded(processor, given), decoded(processor, expected, **options), strict=True):
        assert all(map(np.array_equal, one, other))


# the document


def rows_below(heading: str) -> list[list[str]]:
    """The cells of the table in one section of the document, its code without backticks."""
    section = re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)[1]
    rows = [line.strip("| \n").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip("` ") for cell in row] for row in rows[1:]]


def names_for(scorer, frames) -> dict:
    def chat(*blocks):
        options = {"tokenize": True, "return_dict": True, "add_generation_prompt": True}
        return scorer.processor.apply_chat_template([{"role": "user", "content": list(blocks)}], **options)

    files = [{"path": "clip.mp4", "bytes": None}, {"path": None, "bytes": Path("picture.png").read_bytes()}]
    column = datasets.Dataset.from_dict({"video": files})
    known = (np, torch, Image, Path, base64, KeyDataset, VideoMetadata, load_video, open)
    return {
        **{thing.__name__.removeprefix("PIL."): thing for thing in known},
        **{"np": np, "scorer": scorer, "processor": scorer.processor, "chat": chat, "frames": frames},
        "dataset": column.cast_column("video", datasets.Video(decode=False)),
    }


def said_of(result) -> str:
    """What the document would say of a result."""
    numbers = {0: "no video", 1: "one video", 2: "two videos", 3: "three videos", 30: "thirty videos"}
    if isinstance(result, BatchFeature):
        return numbers[len(result.get("num_chunks", []))]
    if isinstance(result, dict):
        assert 0 <= result["score"] <= 100
        return numbers[1]
    results = list(result)
    errors = [row for row in results if "error" in row]
    if errors:
        assert len(errors) == 1 and "missing.mp4" in errors[0]["error"]
        return f"{numbers[len(results) - 1]} and one error"
    said = "a list of one video" if len(results) == 1 else numbers[len(results)]
    return said if isinstance(result, list) else f"{said}, one after another"


@pytest.mark.parametrize(
    "call, said",
    [(f"scorer({given})", said) for given, said, *_ in rows_below("Videos")]
    + rows_below("Frame rate, errors and options")
    + rows_below("Pictures and chats"),
)
def test_the_document_says_what_a_call_is(scorer, frames, in_folder, call, said):
    names = names_for(scorer, frames)
    if said.endswith("Error"):
        with pytest.raises(Exception) as raised:
            eval(call, names)
        assert type(raised.value).__name__ == said
    else:
        assert said_of(eval(call, names)) == said


@pytest.mark.parametrize("command, rows", rows_below("Command line"))
def test_the_document_says_what_a_command_scores(checkpoint, in_folder, capsys, command, rows):
    _, *arguments = shlex.split(command)
    status = main([*arguments, "--model", str(checkpoint), "--device", "cpu", "--json"])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(found) == int(rows)
    assert status == any(row["error"] for row in found) == ("missing" in command)


# one video in other forms: the same frames


@pytest.mark.parametrize(
    "form",
    [
        Path,
        io.FileIO,
        lambda path: Path(path).read_bytes(),
        lambda path: bytearray(Path(path).read_bytes()),
        lambda path: memoryview(Path(path).read_bytes()),
        lambda path: {"path": path, "bytes": None},
        lambda path: {"path": path},
        lambda path: {"bytes": Path(path).read_bytes()},
        lambda path: {"path": "lost.mp4", "bytes": Path(path).read_bytes()},
        lambda path: f"data:video/mp4;base64,{base64.b64encode(Path(path).read_bytes()).decode()}",
    ],
)
def test_files(processor, clips, form):
    assert_same(processor, form(clips[1]), clips[1])


@pytest.mark.parametrize(
    "form",
    [
        torch.from_numpy,
        lambda frames: torch.from_numpy(frames).permute(0, 3, 1, 2),
        lambda frames: np.asfortranarray(frames),
        lambda frames: frames[:, :, ::-1].copy()[:, :, ::-1],
        lambda frames: np.concatenate([frames, np.full_like(frames[..., :1], 255)], -1),
        lambda frames: np.concatenate([frames, np.full_like(frames[..., :1], 255)], -1).transpose(0, 3, 1, 2),
        list,
        tuple,
        lambda frames: [torch.from_numpy(frame).permute(2, 0, 1) for frame in frames],
        lambda frames: [Image.fromarray(frame) if index % 2 else frame for index, frame in enumerate(frames)],
        lambda frames: list(frames / 255),
        *(lambda frames, name=name: frames.astype(name) for name in ("int16", "int32", "int64", "uint16", ">i4")),
        *(lambda frames, name=name: (frames / 255).astype(name) for name in ("float16", "float32", "float64")),
        lambda frames: torch.from_numpy(frames).to(torch.int32),
        lambda frames: torch.from_numpy(frames).float().div(255).requires_grad_(),
        lambda frames: torch.from_numpy(frames).double().div(255).movedim(-1, 1),
    ],
)
def test_arrays(processor, frames, form):
    assert_same(processor, [form(frames)], [frames])
    assert_same(processor, form(frames), frames)


def test_bfloat16_is_as_exact_as_it_can_be(processor, frames):
    (given,), (expected,) = (
        processor.video_processor.decode(video) for video in (torch.from_numpy(frames).div(255).bfloat16(), frames)
    )
    assert np.abs(given.key_frames.astype(int) - expected.key_frames).max() <= 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_arrays_on_a_gpu(processor, frames):
    assert_same(processor, torch.from_numpy(frames).cuda(), frames)
    assert_same(processor, list(torch.from_numpy(frames).cuda().float() / 255), frames)


@pytest.mark.parametrize(
    "form",
    [
        lambda grey: grey,
        lambda grey: grey[..., 0],
        lambda grey: grey.transpose(0, 3, 1, 2),
        lambda grey: grey[..., 0] / 255,
        lambda grey: list(grey),
        lambda grey: list(grey[..., 0]),
    ],
)
def test_grey_frames(processor, grey, form):
    assert_same(processor, form(grey), np.repeat(grey, 3, -1))


@pytest.mark.parametrize(
    "form",
    [
        lambda picture: picture[None],
        Image.fromarray,
        lambda picture: picture.transpose(2, 0, 1),
        lambda picture: picture / 255,
        lambda picture: np.concatenate([picture, np.full_like(picture[..., :1], 255)], -1),
        lambda picture: [picture],
        lambda picture: [Image.fromarray(picture)],
    ],
)
def test_a_picture_is_a_video_of_one_frame(processor, frames, form):
    assert_same(processor, form(frames[0]), frames[0])


def test_frames_of_several_sizes(processor, frames):
    given = [frames[0], frames[1, :20], frames[2].transpose(2, 0, 1), frames[3, ..., 0]]
    pictures = [Image.fromarray(frame) for frame in (frames[0], frames[1, :20], frames[2])]
    assert_same(processor, given, [*pictures, Image.fromarray(frames[3, ..., 0]).convert("RGB")])


def test_a_grey_picture(processor, frames):
    for picture in (frames[0, ..., 0], frames[0, ..., :1], frames[:1, ..., 0]):
        assert_same(processor, picture, np.repeat(frames[0, ..., :1], 3, -1))


@pytest.mark.parametrize(
    "form, message",
    [
        (lambda frames: frames.astype(np.float32), "values from 0 to 255, expected floats from 0 to 1; clip them"),
        (lambda frames: frames / 255 - 0.5, "values from -0.5 to 0.5, expected floats from 0 to 1"),
        (lambda frames: np.where(frames == 0, np.nan, frames / 255), "from nan to nan, expected floats from 0 to 1"),
        (
            lambda frames: frames.astype(np.uint16) * 257,
            "got a video array of uint16 .* expected 0 to 255; scale them",
        ),
        (lambda frames: frames.astype(np.int16) - 1, "from -1 to 254, expected 0 to 255"),
        (lambda frames: frames > 100, "of type bool, expected integers from 0 to 255 or floats from 0 to 1"),
        (lambda frames: frames.astype(complex), "of type complex128, expected"),
        (lambda frames: frames.astype(object), "of type object, expected"),
        (lambda frames: frames[..., :2], r"shape \(30, 24, 32, 2\), expected \(frames, height, width, channels\)"),
        (lambda frames: frames[0, 0, 0], r"shape \(3,\), expected"),
        (lambda frames: frames[None, None], r"shape \(1, 1, 30, 24, 32, 3\), expected"),
        (lambda frames: [frames[..., 0], frames[..., 0]], r"frame of shape \(30, 24, 32\) in a list, expected"),
        (lambda frames: {}, "got a dict with nothing in it, expected a path or bytes"),
        (lambda frames: {"path": None, "bytes": None}, "got a dict with path, bytes, expected a path or bytes"),
        (lambda frames: {"video": "clip.mp4", "mos": 3}, r"video, mos, .* KeyDataset\(dataset, 'video'\)"),
        (lambda frames: [{"role": "user", "content": "clip.mp4"}], "got a dict with role, content, expected"),
    ],
)
def test_what_cannot_be_read_exactly_is_refused(scorer, frames, form, message):
    with pytest.raises(ValueError, match=message):
        scorer(form(frames))


def test_types_that_are_no_video_are_refused(scorer):
    for given in (3, None, [None], object()):
        with pytest.raises(TypeError, match="got a video of type"):
            scorer(given)


# many videos


@pytest.mark.parametrize(
    "form",
    [
        lambda one, other: [one, other],
        lambda one, other: (one, other),
        lambda one, other: np.stack([one, other]),
        lambda one, other: torch.stack([torch.from_numpy(one), torch.from_numpy(other)]),
        lambda one, other: [list(one), list(other)],
        lambda one, other: (tuple(one), tuple(other)),
        lambda one, other: [[one], [other]],
        lambda one, other: [[list(one)], [], [list(other)]],
        lambda one, other: [np.stack([one, other])],
        lambda one, other: [one, list(other)],
    ],
)
@pytest.mark.parametrize("batch_size", [1, 2])
def test_each_video_has_its_result(scorer, frames, form, batch_size):
    one, other = frames, frames // 2
    expected = [scorer(one), scorer(other)]
    assert expected[0]["score"] != pytest.approx(expected[1]["score"], abs=0.01)
    found = scorer(form(one, other), batch_size=batch_size)
    assert [result["score"] for result in found] == pytest.approx([result["score"] for result in expected], abs=1e-3)
    assert scorer.processor(form(one, other))["num_chunks"].tolist() == [1, 1]


def test_a_list_of_frames_is_one_video_everywhere(scorer, processor, frames):
    expected = scorer(frames)
    for given in (list(frames), tuple(frames), [Image.fromarray(frame) for frame in frames]):
        assert scorer(given) == expected
        assert list(scorer(iter([given]))) == [expected]
        assert torch.equal(processor(given)["pixel_values_videos"], processor(frames)["pixel_values_videos"])


def test_training_rows_keep_their_videos(processor, frames):
    row = {"question": processor.score_question, "answer": "63", "score": 63.0}
    pictures = [frames[0], frames[1]]  # in one list they would be one video
    batch = LmmVqaDataCollator(processor, 4096)([{"video": picture} | row for picture in pictures])
    assert torch.equal(batch["pixel_values"], processor([[picture] for picture in pictures])["pixel_values"])


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_streams_are_read_as_results_are_asked_for(scorer, frames, batch_size):
    taken = []

    def videos():
        for index in range(6):
            taken.append(index)
            yield frames // (index + 1)

    results = scorer(videos(), batch_size=batch_size)
    first = next(results)
    assert len(taken) == batch_size
    scores = [result["score"] for result in (first, *results)]
    assert scores == pytest.approx([scorer(frames // (index + 1))["score"] for index in range(6)], abs=1e-3)


def test_an_item_of_a_stream_is_one_video(scorer, frames):
    with pytest.raises(ValueError, match="got an item of 2 videos, expected one for each item of a generator"):
        list(scorer(iter([frames, [frames, frames]])))
    rows = list(scorer(iter([frames, [frames, frames], [], frames]), on_error="row"))
    assert ["error" in row for row in rows] == [False, True, True, False]
    with pytest.raises(ValueError, match=r"let each item be a pair \(frames, metadata\)"):
        scorer(iter([frames]), video_metadata=[{"fps": 25}])


def test_columns_of_datasets(scorer, processor, clips):
    files = [
        {"path": clips[0], "bytes": None},
        {"path": None, "bytes": Path(clips[1]).read_bytes()},
        {"path": "lost.mp4", "bytes": Path(clips[2]).read_bytes()},
    ]
    dataset = datasets.Dataset.from_dict({"video": files}).cast_column("video", datasets.Video(decode=False))
    stream = dataset.to_iterable_dataset()
    expected = [scorer(clip) for clip in clips]
    for column in (dataset["video"], KeyDataset(dataset, "video"), stream["video"]):
        assert list(scorer(column)) == expected
    assert scorer(dataset[:]["video"]) == expected
    assert processor(dataset["video"])["num_chunks"].tolist() == [1, 2, 3]
    rows = list(scorer(dataset, on_error="row"))
    assert all("got a dict with video, expected a path or bytes" in row["error"] for row in rows)


# torchcodec, which cannot be installed everywhere: a class of that name


class VideoDecoder:
    __module__ = "torchcodec.decoders._video_decoder"

    def __init__(self, frames, dimension_order="NCHW"):
        self._frames = torch.from_numpy(frames)
        if dimension_order == "NCHW":
            self._frames = self._frames.permute(0, 3, 1, 2)
        self.metadata = SimpleNamespace(average_fps=20.0, path=None)

    def __len__(self):
        return len(self._frames)

    def __getitem__(self, index):
        return self._frames[index]

    def __iter__(self):
        return iter(self._frames)

    def get_frames_in_range(self, start, stop):
        return SimpleNamespace(data=self._frames[start:stop])


@pytest.mark.parametrize("dimension_order", ["NCHW", "NHWC"])
def test_torchcodecs_decoder_is_one_video(scorer, processor, frames, dimension_order):
    decoder = VideoDecoder(frames, dimension_order)
    assert_same(processor, decoder, frames, fps=20)
    assert scorer(decoder) == scorer(frames, fps=20)
    assert list(scorer(iter([decoder, decoder]))) == scorer([decoder, decoder])
    with pytest.raises(ValueError, match="got fps=25 for the given VideoDecoder"):
        scorer(decoder, fps=25)


def test_what_datasets_decoded_is_read_as_the_file(processor, frames, clips):
    for encoded in ({"path": clips[1], "bytes": None}, {"path": None, "bytes": Path(clips[1]).read_bytes()}):
        decoder = VideoDecoder(frames)
        decoder._hf_encoded = encoded
        assert_same(processor, decoder, clips[1])
    decoder._hf_encoded = {"path": "hf://datasets/me/mine/clip.mp4", "bytes": None}
    assert_same(processor, decoder, frames, fps=20)


# frame rates


@pytest.mark.parametrize(
    "given, options",
    [
        (lambda frames: frames, {"fps": 10}),
        (lambda frames: frames, {"fps": 10.0}),
        (lambda frames: frames, {"fps": Fraction(10)}),
        (lambda frames: frames, {"fps": np.float32(10)}),
        (lambda frames: frames, {"video_metadata": {"fps": 10}}),
        (lambda frames: frames, {"video_metadata": [{"fps": 10}]}),
        (lambda frames: frames, {"video_metadata": [[{"fps": 10}]]}),
        (lambda frames: frames, {"video_metadata": VideoMetadata(total_num_frames=30, fps=10)}),
        (lambda frames: frames, {"video_metadata": [VideoMetadata(total_num_frames=30, fps=10)]}),
        (lambda frames: frames, {"video_metadata": {"fps": 10}, "fps": 10}),
        (lambda frames: frames, {"video_metadata": {"fps": None}, "fps": 10}),
        (lambda frames: (frames, {"fps": 10}), {}),
        (lambda frames: [(frames, VideoMetadata(total_num_frames=30, fps=10))], {}),
        (lambda frames: (list(frames), {"fps": 10}), {}),
        # Every third of a video's frames, as load_video(fps=10) takes them
        (lambda frames: (frames, {"fps": 30, "total_num_frames": 90, "frames_indices": np.arange(0, 90, 3)}), {}),
    ],
)
def test_frame_rate_of_frames(scorer, processor, frames, given, options):
    assert processor(given(frames), **options)["num_chunks"].tolist() == [3]
    expected = processor.video_processor(frames, fps=10)
    found = processor.video_processor(given(frames), **options)
    assert torch.equal(found["pixel_values_videos"], expected["pixel_values_videos"])
    results = scorer(given(frames), **options)
    assert (results[0] if isinstance(results, list) else results) == scorer(frames, fps=10)


def test_a_frame_rate_for_each_video(scorer, processor, frames, clips):
    metadata = [{"fps": 10}, None, {"fps": 15, "width": 32}, {}]
    inputs = processor([frames, clips[0], frames, frames], video_metadata=metadata)
    assert inputs["num_chunks"].tolist() == [3, 1, 2, 1]
    pairs = [(frames, {"fps": rate}) for rate in (10, 15, 30)]
    assert processor(pairs)["num_chunks"].tolist() == [3, 2, 1]
    assert list(scorer(iter(pairs))) == scorer(pairs)


def test_frames_that_load_video_sampled_keep_their_times(processor, clips):
    assert processor(load_video(clips[2]))["num_chunks"].tolist() == [3]
    assert processor(load_video(clips[2], fps=5))["num_chunks"].tolist() == [3]


def test_frame_rates_of_rate_videos(tiny, scorer, frames):
    model, processor = tiny
    for options in ({"fps": 10}, {"video_metadata": {"fps": 10}}):
        assert [vars(result) for result in model.rate_videos(processor, frames, **options)] == [scorer(frames, fps=10)]


def test_errors_of_rate_videos(tiny, scorer, clips):
    model, processor = tiny
    videos = [clips[0], "missing.mp4", clips[1]]
    first, failed, second = model.rate_videos(processor, videos, on_error="row")
    assert failed == scorer("missing.mp4", on_error="row") and "no such file" in failed["error"]
    assert [first, second] == model.rate_videos(processor, [clips[0], clips[1]])
    assert model.rate_videos(processor, "missing.mp4", on_error="row") == [failed]
    with pytest.raises(FileNotFoundError):
        model.rate_videos(processor, videos)
    with pytest.raises(ValueError, match="got on_error='skip', expected 'raise' or 'row'"):
        model.rate_videos(processor, videos, on_error="skip")


def test_the_pipelines_own_frame_rate(tiny, frames):
    scorer = pipeline("video-quality-assessment", model=tiny[0], processor=tiny[1], fps=10)
    assert scorer(frames) == scorer((frames, {"fps": 10}))
    assert list(scorer(iter([frames]))) == scorer([frames])


@pytest.mark.parametrize(
    "given, options, message",
    [
        ("frames", {"fps": 0}, "got fps=0, expected a positive number"),
        ("frames", {"fps": -1.5}, "got fps=-1.5, expected a positive number"),
        ("frames", {"fps": float("nan")}, "got fps=nan, expected a positive number"),
        ("frames", {"fps": "25"}, "got fps='25', expected a positive number"),
        (
            "clip",
            {"fps": 25},
            "got fps=25 for .*1s.mp4, expected it for arrays and lists of pictures: anything else has",
        ),
        ("clip", {"video_metadata": {"fps": 25}}, "got fps=25 for .*1s.mp4"),
        ("frames", {"video_metadata": {"fps": 25}, "fps": 30}, "got the frame rates 25.0 and 30 for one video"),
        ("frames", {"video_metadata": []}, "got video_metadata for 0 videos, expected 1; give one entry a video"),
        ("frames", {"video_metadata": [{"fps": 25}] * 2}, "got video_metadata for 2 videos, expected 1"),
        (
            "frames",
            {"video_metadata": {"FPS": 25}},
            "got video_metadata with FPS, expected some of total_num_frames, fps",
        ),
    ],
)
def test_frame_rates_without_a_meaning_are_refused(scorer, frames, clips, given, options, message):
    video = {"frames": frames, "clip": clips[0]}[given]
    for function in (scorer, scorer.processor, scorer.processor.video_processor):
        with pytest.raises(ValueError, match=message):
            function(video, **options)


# options


@pytest.mark.parametrize(
    "options, message",
    [
        ({"fsp": 25}, "got fsp, expected some of .*chunk_frames"),
        ({"size": {"shortest_edge": 32}}, "got size, expected some of .*key_frame_size"),
        ({"text_kwargs": {"pading": True}}, "got pading in text_kwargs, expected some of .*padding"),
        ({"videos_kwargs": {"fsp": 25}}, "got fsp in videos_kwargs, expected some of .*fps"),
        ({"common_kwargs": {"padding": True}}, "got padding in common_kwargs, expected some of return_tensors"),
        ({"images_kwargs": {"do_resize": True}}, "got images_kwargs, expected some of"),
    ],
)
def test_unknown_options_of_the_processor(processor, clips, options, message):
    with pytest.raises(TypeError, match=message):
        processor(clips[0], **options)
    messages = [{"role": "user", "content": [{"type": "video", "path": clips[0]}]}]
    with pytest.raises(TypeError, match=message):
        processor.apply_chat_template(messages, tokenize=True, processor_kwargs=options)


def test_known_options_of_the_processor(processor, frames):
    grouped = processor(frames, videos_kwargs={"fps": 10, "chunk_frames": 4}, text_kwargs={"padding_side": "right"})
    flat = processor(frames, fps=10, chunk_frames=4, padding_side="right", common_kwargs={"return_tensors": "pt"})
    assert flat["num_chunks"].tolist() == [3] and flat["pixel_values_videos"].shape[1] == 4
    assert all(torch.equal(grouped[name], flat[name]) for name in flat)


def test_unknown_options_of_the_video_processor(clips):
    for function in (
        lambda: LmmVqaVideoProcessor(chunk_frame=8),
        lambda: LmmVqaVideoProcessor()(clips[0], chunk_frame=8),
    ):
        with pytest.raises(TypeError, match="got chunk_frame, expected some of key_frame_size, .*chunk_frames"):
            function()


def test_a_batch_of_no_videos_is_refused(scorer, clips):
    with pytest.raises(ValueError, match="got batch_size=0, expected at least 1 video"):
        scorer(clips, batch_size=0)


def test_unknown_options_of_the_pipeline(tiny, scorer, clips):
    message = "got reedout, expected some of readout, on_error, fps, .*options of GenerationConfig"
    for video in (clips[0], clips, iter(clips)):
        with pytest.raises(TypeError, match=message):
            scorer(video, reedout="generate")
    with pytest.raises(TypeError, match=message):
        pipeline("video-quality-assessment", model=tiny[0], processor=tiny[1], reedout="generate")
    with pytest.raises(ValueError, match="got on_error='skip', expected 'raise' or 'row'"):
        scorer(clips[0], on_error="skip")


def test_options_of_generation_need_generation(scorer, clips):
    with pytest.raises(ValueError, match="got max_new_tokens without readout='generate', expected no options"):
        scorer(clips[0], max_new_tokens=4)


def test_options_of_generation_go_on_working(tiny, scorer, clips, monkeypatch):
    options = {"max_new_tokens": 3, "num_beams": 2, "eos_token_id": None, "do_sample": False}
    generated = []

    def decode(ids, **_):
        generated.append(ids)
        return ["50"] * len(ids)

    monkeypatch.setattr(scorer.processor, "batch_decode", decode)
    assert [result["score"] for result in scorer(clips, readout="generate", batch_size=3, **options)] == [50] * 3
    set_before = pipeline(
        "video-quality-assessment", model=tiny[0], processor=scorer.processor, readout="generate", **options
    )
    set_before(clips, batch_size=3)
    inputs = scorer.processor(clips)
    expected = tiny[0].generate(**inputs, **options)[:, inputs["input_ids"].shape[1] :]
    assert torch.equal(generated[0], expected) and torch.equal(generated[1], expected)


# errors


@pytest.fixture(scope="module")
def unreadable(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unreadable")
    (folder / "text.mp4").write_text("this is not a video\n" * 50)
    return [str(folder / "text.mp4"), str(folder / "missing.mp4"), b"", np.zeros((2, 2), complex), None]


@pytest.mark.parametrize("batch_size", [1, 2, 8])
@pytest.mark.parametrize("form", [list, tuple, iter])
def test_a_batch_outlives_what_cannot_be_read(scorer, clips, unreadable, form, batch_size):
    videos = [clips[0], *unreadable, clips[1], clips[2]]
    rows = list(scorer(form(videos), on_error="row", batch_size=batch_size))
    assert [set(row) == {"error"} for row in rows] == [False] + [True] * 5 + [False] * 2
    reasons = ("text.mp4", "missing.mp4: no such file", "the given BytesIO", "complex128", "NoneType")
    for row, reason in zip(rows[1:6], reasons, strict=True):
        assert reason in row["error"] and "\n" not in row["error"]
    scores = [row["score"] for row in (rows[0], *rows[6:])]
    assert scores == pytest.approx([scorer(clip)["score"] for clip in clips], abs=1e-3)


def test_one_video_that_cannot_be_read(scorer, unreadable, clips):
    (error,) = scorer(unreadable[0], on_error="row").values()
    assert "text.mp4" in error
    assert scorer(unreadable, on_error="row", batch_size=3)[0] == {"error": error}
    for options in ({}, {"on_error": "raise"}):
        with pytest.raises(VideoDecodingError, match="text.mp4"):
            scorer([clips[0], unreadable[0]], **options)


def test_answers_without_a_score_are_rows_too(scorer, clips, monkeypatch):
    monkeypatch.setattr(scorer.processor, "batch_decode", lambda ids, **_: ["50", "who knows", "60"][: len(ids)])
    rows = scorer(clips, readout="generate", on_error="row", batch_size=3)
    assert [row.get("score") for row in rows] == [50, None, 60]
    assert rows[1] == {"error": "got the answer 'who knows', expected exactly one number from 0 to 100"}


# pictures and chats


def picture(value: int) -> Image.Image:
    return Image.new("RGB", (32, 24), (value, 255 - value, 0))


def test_images_are_videos_of_one_frame(processor, frames):
    for given, expected in (
        (picture(9), [[picture(9)]]),
        ([picture(9), picture(200)], [[picture(9)], [picture(200)]]),
        ([[picture(9)], [picture(200), frames[0]]], [[picture(9)], [picture(200)], [frames[0]]]),
        (frames[:2], [[frames[0]], [frames[1]]]),
    ):
        found, wanted = processor(images=given), processor(expected)
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_images_come_before_videos(processor, frames, clips):
    found = processor(images=[frames[0]], videos=[clips[1], frames], video_metadata=[None, None, {"fps": 10}])
    assert found["num_chunks"].tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="got images and videos beside a text, which does not say in which order"):
        processor(images=frames[0], videos=clips[0], text="<|video|><|video|>")
    with pytest.raises(ValueError, match="got an empty list of videos"):
        processor(images=[])
    with pytest.raises(ValueError, match="got audio, .*: the model does not hear"):
        processor(clips[0], audio=np.zeros(16_000))


TOKENIZE = {"tokenize": True, "return_dict": True, "add_generation_prompt": True}


def test_blocks_keep_their_places(processor, frames, clips):
    user = [
        {"type": "image", "image": picture(9)},
        {"type": "text", "text": "Is it worse than "},
        {"type": "video", "path": clips[1]},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + encoded_picture(200)}},
        {"type": "text", "text": "or?"},
    ]
    answer = [{"type": "text", "text": "No."}]
    messages = [
        {"role": "user", "content": user},
        {"role": "assistant", "content": answer},
        {"role": "user", "content": [{"type": "video", "video": list(frames), "fps": 10}]},
    ]
    before = json.dumps(messages, default=repr)
    inputs = processor.apply_chat_template(messages, **TOKENIZE)
    assert json.dumps(messages, default=repr) == before
    assert inputs["num_chunks"].tolist() == [1, 2, 1, 3]
    shown = processor([[picture(9)], clips[1], [picture(200)], (frames, {"fps": 10})])
    for name in ("pixel_values", "pixel_values_videos"):
        assert torch.equal(inputs[name], shown[name])
    one, two, three = ("<|key_frame|>" * 4 * seconds + "<|video|>\n" for seconds in (1, 2, 3))
    assert processor.decode(inputs["input_ids"][0]) == (
        f"<|user|>{one}Is it worse than {two}{one}or?<|end|><|assistant|>No.<|end|><|user|>{three}<|end|><|assistant|>"
    )


def encoded_picture(value: int) -> str:
    file = io.BytesIO()
    picture(value).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize("template_of", ["blocks", "text alone"])
def test_a_chat_of_blocks_is_the_prompt(clips, template_of):
    processor = tiny_pair()[1]
    if template_of == "text alone":  # as Llama-3's
        processor.chat_template = (
            "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] | trim }}<|end|>{% endfor %}"
            "{% if add_generation_prompt %}<|assistant|>{% endif %}"
        )
    messages = [
        {"role": "system", "content": [{"type": "text", "text": processor.system_prompt}]},
        {
            "role": "user",
            "content": [{"type": "video", "path": clips[1]}, {"type": "text", "text": processor.score_question}],
        },
    ]
    assert processor.apply_chat_template(messages, add_generation_prompt=True) == processor.prompt()
    found, expected = processor.apply_chat_template(messages, **TOKENIZE), processor(clips[1])
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_templates_of_ones_own_see_blocks(processor, clips):
    content = [
        {"type": "image", "image": picture(9)},
        {"type": "text", "text": "How?"},
        {"type": "video", "path": clips[1]},
    ]
    template = (
        "{% for block in messages[0]['content'] %}"
        "{% if block['type'] == 'video' %}[<|video|>]{% else %}{{ block['text'] }}{% endif %}{% endfor %}"
    )
    inputs = processor.apply_chat_template([{"role": "user", "content": content}], template, **TOKENIZE)
    one, two = ("<|key_frame|>" * 4 * seconds + "<|video|>" for seconds in (1, 2))
    assert processor.decode(inputs["input_ids"][0]) == f"[{one}]How?[{two}]"


def test_placeholders_that_a_user_writes_are_text_once_sanitized(processor, clips):
    content = [{"type": "video", "path": clips[0]}, {"type": "text", "text": "Is <|video|> a video?"}]
    options = TOKENIZE | {"sanitize_control_tokens": True}
    inputs = processor.apply_chat_template([{"role": "user", "content": content}], **options)
    assert inputs["input_ids"][0].tolist().count(processor.video_token_id) == 1
    assert processor.decode(inputs["input_ids"][0]).endswith("Is <|video|> a video?<|end|><|assistant|>")


def test_chats_in_a_batch(processor, frames, clips):
    chats = [
        [{"role": "user", "content": [{"type": "image", "image": picture(9)}]}],
        [{"role": "user", "content": "How good?"}],
        [{"role": "user", "content": [{"type": "video", "video": frames}, {"type": "video", "url": clips[1]}]}],
    ]
    inputs = processor.apply_chat_template(chats, **TOKENIZE)
    assert inputs["num_chunks"].tolist() == [1, 1, 2]
    assert [ids.count(processor.video_token_id) for ids in inputs["input_ids"].tolist()] == [1, 0, 2]


def test_frame_rate_of_a_chat(processor, frames):
    chat = [{"role": "user", "content": [{"type": "video", "video": frames}]}]
    for options in ({"fps": 10}, {"video_metadata": [{"fps": 10}]}):
        inputs = processor.apply_chat_template(chat, processor_kwargs=options, **TOKENIZE)
        assert inputs["num_chunks"].tolist() == [3]
    with pytest.raises(ValueError, match="got num_frames=2, expected no sampling"):
        processor.apply_chat_template(chat, processor_kwargs={"num_frames": 2}, **TOKENIZE)


@pytest.mark.parametrize(
    "block, message",
    [
        ({"type": "audio", "path": "song.mp3"}, "got a block of type 'audio', expected text, image or video"),
        (
            {"type": "video", "path": "a.mp4", "nframes": 2},
            "'video' with nframes, expected type, video, url, path, fps",
        ),
        ({"type": "image", "path": "a.png", "fps": 2}, "'image' with fps, expected type, image, url, path, base64"),
        ({"type": "video"}, r"got 1 <\|video\|> in the chats for 0 videos"),
    ],
)
def test_blocks_that_cannot_be_shown_are_refused(processor, block, message):
    with pytest.raises(ValueError, match=message):
        processor.apply_chat_template([{"role": "user", "content": [block]}], **TOKENIZE)


def test_the_task_image_text_to_text_answers_to_videos_and_images(tiny, clips):
    model, processor = tiny
    answers = pipeline("image-text-to-text", model=model, processor=processor)
    for block in ({"type": "video", "path": clips[1]}, {"type": "image", "image": picture(9)}):
        chat = [{"role": "user", "content": [block, {"type": "text", "text": "How good?"}]}]
        options = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None}
        (answer,) = answers(text=chat, generate_kwargs=options, return_full_text=False)
        inputs = processor.apply_chat_template(chat, **TOKENIZE)
        generated = model.generate(**inputs, **options)[:, inputs["input_ids"].shape[1] :]
        assert answer["generated_text"] == processor.decode(generated[0], skip_special_tokens=True)
        assert answer["input_text"] == chat
    chat = processor.prompt("How good?")
    (answer,) = answers(images=[picture(9)], text=chat, max_new_tokens=4)
    assert isinstance(answer["generated_text"], str)
