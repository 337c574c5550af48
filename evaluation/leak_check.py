"""Whether a checkpoint was trained on the videos that it is evaluated with.

Refused are videos that the checkpoint's list has by name within the same data set, or by content under whatever name.
A video whose group alone stands in the list is counted and named, and evaluated: 98 uploads have one cut in train and
another in test of LSVQ's split `paper`, and leaving them out would make other figures than the published ones.
"""

from dataclasses import dataclass

from ..checkpoints.training_videos import TrainingVideos
from ..datasets_scripts.rows import video_id


NAMED = 5  # videos in a message; metrics.json has all


@dataclass
class LeakReport:
    """
    Attributes:
        listed: videos in the checkpoint's list; None where it has none, so that nothing could be checked.
        unlisted: checkpoints that it was trained from and that list nothing.
        by_name, by_content: evaluated videos that it was trained on, as `dataset/id`.
        by_group: evaluated videos of which it has seen the content in another cut or version.
    """

    listed: int | None
    unlisted: list[str]
    by_name: list[str]
    by_content: list[str]
    by_group: list[str]

    @property
    def trained(self) -> list[str]:
        return list(dict.fromkeys(self.by_name + self.by_content))


def check_leaks(rows: list[dict], digests: list[str | None], listed: TrainingVideos | None) -> LeakReport:
    """
    Args:
        rows: of the evaluated videos.
        digests: of their content, see `training_videos.content_digests`; None where there is none.
    """
    if listed is None:
        return LeakReport(None, [], [], [], [])
    ids = {(video.dataset, video.id) for video in listed.videos}
    contents = {video.digest for video in listed.videos} - {None}
    groups = {(video.dataset, video.group) for video in listed.videos}
    by_name, by_content, by_group = [], [], []
    for row, digest in zip(rows, digests, strict=True):
        name = full_name(row)
        same_name, same_content = (row["dataset"], video_id(row)) in ids, digest in contents
        by_name += [name] * same_name
        by_content += [name] * same_content
        if (row["dataset"], row["group"]) in groups and not (same_name or same_content):
            by_group.append(name)
    return LeakReport(len(listed.videos), listed.unlisted, by_name, by_content, by_group)


def refuse_leaks(report: LeakReport) -> None:
    """
    Raises:
        ValueError: the checkpoint was trained on evaluated videos.
    """
    if report.trained:
        raise ValueError(
            f"got {len(report.trained)} videos that the checkpoint was trained on ({len(report.by_name)} by name, "
            f"{len(report.by_content)} by content: {some(report.trained)}), expected none; evaluate other videos, or "
            "give --allow_training_videos"
        )


def leak_notes(report: LeakReport) -> list[str]:
    """What the reader of a table must know, a sentence each."""
    notes = []
    if report.listed is None:
        notes.append(
            "The checkpoint has no training_videos.parquet: whether it saw these videos could not be checked."
        )
    if report.unlisted:
        notes.append(
            f"No training videos are listed for {', '.join(report.unlisted)}, which the checkpoint was trained from: the "
            "leak check covers what was trained since."
        )
    if report.trained:
        notes.append(
            f"{len(report.trained)} of the videos are training videos of the checkpoint ({len(report.by_name)} by "
            f"name, {len(report.by_content)} by content: {some(report.trained)}); they were allowed."
        )
    if report.by_group:
        notes.append(
            f"{len(report.by_group)} of the videos show content that the checkpoint was trained on in another cut or "
            f"version ({some(report.by_group)}); they are evaluated, as the official splits are."
        )
    return notes


def full_name(row: dict) -> str:
    return f"{row['dataset']}/{video_id(row)}"


def some(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
