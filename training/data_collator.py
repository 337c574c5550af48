"""Questions with answers to a padded batch with labels, through the processor that inference uses."""

from dataclasses import dataclass

import torch

from ..processing.processing_lmmvqa import LmmVqaProcessor
from ..processing.video_decoding_lmmvqa import DecodedVideo, EncodedVideo


@dataclass
class LmmVqaDataCollator:
    """
    Rows {video, question, answer, score}, optionally with system_prompt, position, one_second and content, to model inputs and `labels`
    (batch, sequence): the ids of the answer and of the end-of-turn token as they stand in the chat, -100 on everything else.
    Labels are not shifted; the loss does that. `scores` (batch,) are the MOS that the answers state, NaN for other
    questions; `contents` (batch,) are the numbers of `QaPairs.contents`. The model takes neither.

    A video longer than the decoder's context is cut as for scoring, see `LmmVqaProcessor.windows`, and the window at
    the row's position (0 to below 1) is taken, the first one without. Nothing is drawn here, where batches are made
    ahead: a resumed run would draw otherwise. With `one_second` it is the second there. Without a feature cache all of the
    video is decoded.

    Args:
        max_positions: the decoder's `max_position_embeddings`.
    """

    processor: LmmVqaProcessor
    max_positions: int

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        turns = [(row["question"], row["answer"], row.get("system_prompt")) for row in rows]
        chats = [self.processor.prompt(*of_row) for of_row in turns]
        # Each row alone: pictures of several rows in one list would be one video
        videos = [video for row in rows for video in self.processor.video_processor.decode([row["video"]])]
        parts = list(map(self._part, videos, chats, rows))
        batch = self.processor(parts, text=chats)
        end_of_turn = self.processor.tokenizer.eos_token_id
        labels = torch.full_like(batch["input_ids"], -100)
        for of_row, input_ids, row_labels in zip(turns, batch["input_ids"], labels, strict=True):
            answer = self.processor.answer_token_ids(*of_row)
            # Templates may add a line break after the turn's end; the answer ends at the last end-of-turn token
            end = int((input_ids == end_of_turn).nonzero()[-1]) + 1
            row_labels[end - len(answer) : end] = torch.tensor(answer)
        scores = torch.tensor([row["score"] for row in rows])
        contents = torch.tensor([row.get("content", -1) for row in rows])
        return {**batch, "labels": labels, "scores": scores, "contents": contents}

    def _part(self, video: DecodedVideo | EncodedVideo, chat: str, row: dict) -> DecodedVideo | EncodedVideo:
        position = row.get("position", 0.0)
        if row.get("one_second"):
            second = int(position * len(video.seconds))
            return video.part(second, second + 1)
        windows = self.processor.windows(video.seconds, chat, self.max_positions)
        if len(windows) == 1:
            return video
        window = windows[int(position * len(windows))]
        return video.part(window.first_chunk, window.end_chunk)
