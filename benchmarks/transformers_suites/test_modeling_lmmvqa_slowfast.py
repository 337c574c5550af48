"""transformers' ModelTesterMixin and ConfigTester on the temporal tower alone."""

import unittest

from conftest import TINY_TEMPORAL
from tests.test_configuration_common import ConfigTester
from tests.test_modeling_common import ModelTesterMixin, floats_tensor
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

from lmmvqa.modeling_lmmvqa import LmmVqaSlowFastConfig, LmmVqaSlowFastModel


MODEL_MAPPING_NAMES["lmmvqa_slowfast"] = LmmVqaSlowFastModel.__name__
TWO_PATHWAYS = "The maps of the two pathways differ in shape; `slow_maps` and `fast_maps` are what a caller can have."


class LmmVqaSlowFastModelTester:
    batch_size = 3
    is_training = False  # a tower without loss

    def prepare_config_and_inputs_for_common(self):
        config = LmmVqaSlowFastConfig(**TINY_TEMPORAL.to_dict())
        return config, {"pixel_values_videos": floats_tensor([self.batch_size, 8, 3, 32, 32])}


class LmmVqaSlowFastModelTest(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (LmmVqaSlowFastModel,)
    has_attentions = False
    test_resize_embeddings = False

    def setUp(self):
        self.model_tester = LmmVqaSlowFastModelTester()
        self.config_tester = ConfigTester(
            self, config_class=LmmVqaSlowFastConfig, has_text_modality=False, common_properties=["feature_size"]
        )

    def test_config(self):
        self.config_tester.run_common_tests()

    @unittest.skip("A convolutional tower has no token embeddings.")
    def test_model_get_set_embeddings(self):
        pass

    @unittest.skip(TWO_PATHWAYS)
    def test_hidden_states_output(self):
        pass

    @unittest.skip(TWO_PATHWAYS)
    def test_retain_grad_hidden_states_attentions(self):
        pass
