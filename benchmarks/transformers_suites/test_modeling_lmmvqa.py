"""transformers' ModelTesterMixin and ConfigTester on LMM-VQA, with CLIP as the vision tower."""

import unittest
from unittest.mock import patch

import torch
from conftest import tiny_config, tiny_tokenizer
from tests.test_configuration_common import ConfigTester
from tests.test_modeling_common import ModelTesterMixin, floats_tensor, ids_tensor, torch_device
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, MODEL_MAPPING_NAMES

from lmmvqa.modeling_lmmvqa import LmmVqaConfig, LmmVqaForConditionalGeneration, LmmVqaModel


# Where the suite looks up what a class is for; a model inside transformers stands there
MODEL_MAPPING_NAMES["lmmvqa"] = LmmVqaModel.__name__
MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES["lmmvqa"] = LmmVqaForConditionalGeneration.__name__

IN_PORTIONS = (
    "The towers see a portion of the chunks at a time, so that memory does not grow with the video; keeping every "
    "layer's {} of all chunks would undo that. `vision_tower` itself gives them."
)
CONVOLUTIONS = "The temporal tower is convolutional: it has no {}."
TOKENIZER = tiny_tokenizer()


def ids_tensor_without_placeholders(shape, vocab_size, **kwargs):
    """Random prompts: LMM-VQA refuses placeholders for which there is no video."""
    config = tiny_config(TOKENIZER)
    ids = ids_tensor(shape, vocab_size, **kwargs)
    placeholders = torch.tensor([config.image_token_id, config.video_token_id])
    return torch.where(torch.isin(ids, placeholders), placeholders.max() + 1, ids)


class LmmVqaModelTester:
    """Prompts of one key frame (4 tokens), one temporal token and 7 words; one chunk a video, so that every input has
    as many rows as there are videos."""

    batch_size = 7  # the least that the comparison of attention implementations takes without inventing rows
    is_training = True
    seq_length = 4 + 1 + 7
    num_hidden_layers = 2
    num_attention_heads = 4
    hidden_size = 32

    def get_config(self):
        return tiny_config(TOKENIZER, vision="clip")

    def prepare_config_and_inputs_for_common(self):
        config = self.get_config()
        words = ids_tensor_without_placeholders([self.batch_size, 7], len(TOKENIZER))
        image_tokens = torch.full((self.batch_size, 4), config.image_token_id, device=torch_device)
        video_tokens = torch.full((self.batch_size, 1), config.video_token_id, device=torch_device)
        input_ids = torch.cat([image_tokens, video_tokens, words], dim=1)
        return config, {
            "input_ids": input_ids,
            "attention_mask": torch.ones_like(input_ids),
            "pixel_values": floats_tensor([self.batch_size, 3, 32, 32]),
            "pixel_values_videos": floats_tensor([self.batch_size, 8, 3, 32, 32]),
            "num_chunks": torch.ones(self.batch_size, dtype=torch.long, device=torch_device),
        }


class LmmVqaModelTest(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (LmmVqaModel, LmmVqaForConditionalGeneration)
    additional_model_inputs = ["pixel_values", "pixel_values_videos", "num_chunks"]
    _is_composite = True
    # The last layer of CLIP comes after the one that is used, as in LLaVA
    test_all_params_have_gradient = False
    # The suite takes the vision tower's width for that of the temporal features too
    skip_test_video_features_output_shape = True

    def setUp(self):
        self.model_tester = LmmVqaModelTester()
        self.config_tester = ConfigTester(self, config_class=LmmVqaConfig, has_text_modality=False)
        prompts = patch("tests.test_modeling_common.ids_tensor", ids_tensor_without_placeholders)
        prompts.start()
        self.addCleanup(prompts.stop)

    def test_config(self):
        self.config_tester.run_common_tests()

    def _image_features_prepare_config_and_inputs(self):
        config, inputs = super()._image_features_prepare_config_and_inputs()
        return config, inputs | {"num_chunks": torch.ones(self.model_tester.batch_size, dtype=torch.long)}

    def _video_features_prepare_config_and_inputs(self):
        config, inputs = super()._video_features_prepare_config_and_inputs()
        return config, inputs | {"num_chunks": torch.ones(self.model_tester.batch_size, dtype=torch.long)}

    def test_can_init_all_missing_weights(self):
        # In classes from outside transformers, `_initialize_weights` takes a module without parameters of its own as
        # initialised, and CLIPAttention and CLIPMLP initialise their children
        with patch.object(PreTrainedModel, "is_custom_code", return_value=False):
            super().test_can_init_all_missing_weights()

    @unittest.skip("GenerationTesterMixin is not in the sdist; our own tests of generation are in tests/.")
    def test_generation_tester_mixin_inheritance(self):
        pass

    @unittest.skip(IN_PORTIONS.format("hidden states"))
    def test_get_image_features_hidden_states(self):
        pass

    @unittest.skip(IN_PORTIONS.format("attentions"))
    def test_get_image_features_attentions(self):
        pass

    @unittest.skip(CONVOLUTIONS.format("hidden states of a transformer"))
    def test_get_video_features_hidden_states(self):
        pass

    @unittest.skip(CONVOLUTIONS.format("attentions"))
    def test_get_video_features_attentions(self):
        pass
