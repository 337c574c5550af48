"""transformers' ProcessorTesterMixin on LMM-VQA's processor."""

import unittest
from unittest.mock import patch

from conftest import tiny_config, tiny_processor, tiny_tokenizer
from tests.test_processing_common import ProcessorTesterMixin

from lmmvqa.modeling_lmmvqa import LmmVqaProcessor, LmmVqaVideoProcessor


class LmmVqaProcessorTest(ProcessorTesterMixin, unittest.TestCase):
    processor_class = LmmVqaProcessor

    @classmethod
    def _setup_tokenizer(cls):
        return tiny_tokenizer()

    @classmethod
    def _setup_video_processor(cls):
        # The suite counts a row of pixels for each of its clips of one second: of 30 frames, one clip
        return LmmVqaVideoProcessor(key_frame_size=32, chunk_size=32, chunk_frames=32)

    @staticmethod
    def prepare_processor_dict():
        processor = tiny_processor(tiny_config(tiny_tokenizer()), tiny_tokenizer())
        return {name: getattr(processor, name) for name in ("key_frame_token", "video_token", "spatial_grid_size")}

    def setUp(self):
        # A class inside transformers is saved without its code; saving code leaves `auto_map` on what was saved
        without_code = patch.object(LmmVqaProcessor, "_auto_class", None)
        without_code.start()
        self.addCleanup(without_code.stop)

    def prepare_images_inputs(self, *args, **kwargs):
        """None: the suite would give them beside videos, with placeholders of their own, and LMM-VQA's chats have one."""

    def prepare_audio_inputs(self, *args, **kwargs):
        """None: LMM-VQA refuses sound."""

    def _test_apply_chat_template(self, *args):
        # The suite asks for two frames, which LMM-VQA refuses: it looks at a key frame and a chunk of every second
        preprocess = LmmVqaVideoProcessor.preprocess

        def preprocess_without_sampling(video_processor, videos, do_sample_frames=None, num_frames=None, **kwargs):
            return preprocess(video_processor, videos, **kwargs)

        with patch.object(LmmVqaVideoProcessor, "preprocess", preprocess_without_sampling):
            super()._test_apply_chat_template(*args)

    @unittest.skip(
        "The suite counts sampled frames; LMM-VQA refuses to sample, since it looks at a key frame and a chunk of every "
        "second. tests/test_video_decoding.py tests which frames those are."
    )
    def test_apply_chat_template_video_frame_sampling(self):
        pass
