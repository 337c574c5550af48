"""Questions with answers to a padded batch with labels, through the processor that inference uses."""

from dataclasses import dataclass

import torch

from ..processing.processing_lmmvqa import LmmVqaProcessor
from ..processing.video_decoding_lmmvqa import DecodedVideo, EncodedVideo


@dataclass
class LmmVqaDataCollator:
    """
    Rows to model inputs and `labels` (batch, sequence): the ids of each answer and of its end-of-turn token as they stand
    in the chat, -100 on everything else. Labels are not shifted; the loss does that. `scores` (batch,) are the MOS that
    the answers state, NaN for other questions; `contents` (batch,) are the numbers of `QaPairs.contents`, and `data_sets`
    (batch,) those of their data sets. The model takes none of the three. Two kinds of rows, which may be in one batch:

    {video, question, answer, score}, optionally with system_prompt, position, one_second, content and data_set, about quality. A video
    longer than the decoder's context is cut as for scoring, see `LmmVqaProcessor.windows`, and the window at the row's position (0
    to below 1) is taken, the first one without. Nothing is drawn here, where batches are made ahead: a resumed run would
    draw otherwise. With `one_second` it is the second there.

    {media, conversations}, see `datasets_scripts/rows.py`, of which every answer is learned. Videos that do not fit beside
    all turns are shortened as in chats, see `LmmVqaProcessor.fit_videos`: a question about a whole video needs all of it.

    Without a feature cache all of each video is decoded.

    Args:
        max_positions: the decoder's `max_position_embeddings`.
    """

    processor: LmmVqaProcessor
    max_positions: int

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        processor = self.processor
        conversations = [
            row["conversations"]
            if "conversations" in row
            else processor.turns(row["question"], row["answer"], row.get("system_prompt"))
            for row in rows
        ]
        chats = list(map(processor.conversation_prompt, conversations))
        parts = [part for row, chat in zip(rows, chats, strict=True) for part in self._parts(row, chat)]
        batch = processor(parts or None, text=chats)
        labels = torch.full_like(batch["input_ids"], -100)
        is_visual = torch.isin(
            batch["input_ids"], torch.tensor([processor.video_token_id, *processor.image_token_ids])
        )
        is_text = batch["attention_mask"].bool() & ~is_visual
        for turns, own, row_labels in zip(conversations, is_text, labels, strict=True):
            token_ids, is_answer = processor.conversation_token_ids(turns)
            # Videos take more places than in the chat, text the same ones
            text = [
                token if of_answer else -100
                for token, of_answer in zip(token_ids, is_answer, strict=True)
                if token != processor.video_token_id
            ]
            row_labels[own] = torch.tensor(text)
        scores = torch.tensor([row.get("score", torch.nan) for row in rows])
        contents = torch.tensor([row.get("content", -1) for row in rows])
        data_sets = torch.tensor([row.get("data_set", -1) for row in rows])
        return {**batch, "labels": labels, "scores": scores, "contents": contents, "data_sets": data_sets}

    def _parts(self, row: dict, chat: str) -> list[DecodedVideo | EncodedVideo]:
        """What is seen of a row's videos."""
        # Each alone: several pictures in one list would be one video
        media = row["media"] if "conversations" in row else [row["video"]]
        videos = [video for file in media for video in self.processor.video_processor.decode([file])]
        if "conversations" in row:
            return self.processor.fit_videos(videos, chat, self.max_positions)
        (video,) = videos
        position = row.get("position", 0.0)
        if row.get("one_second"):
            second = int(position * len(video.seconds))
            return [video.part(second, second + 1)]
        windows = self.processor.windows(video.seconds, chat, self.max_positions)
        if len(windows) == 1:
            return [video]
        window = windows[int(position * len(windows))]
        return [video.part(window.first_chunk, window.end_chunk)]
