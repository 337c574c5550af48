"""transformers' ModelTesterMixin and ConfigTester on the compact vision tower alone."""

import unittest

from conftest import TINY_LITE
from tests.test_configuration_common import ConfigTester
from tests.test_modeling_common import ModelTesterMixin, floats_tensor
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

from lmmvqa.modeling_lmmvqa import LmmVqaEfficientNetLiteConfig, LmmVqaEfficientNetLiteModel


MODEL_MAPPING_NAMES["lmmvqa_efficientnet_lite"] = LmmVqaEfficientNetLiteModel.__name__


class LmmVqaEfficientNetLiteModelTester:
    batch_size = 3
    is_training = False  # a tower without loss

    def prepare_config_and_inputs_for_common(self):
        config = LmmVqaEfficientNetLiteConfig(**TINY_LITE.to_dict())
        return config, {"pixel_values": floats_tensor([self.batch_size, 3, 32, 32])}


class LmmVqaEfficientNetLiteModelTest(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (LmmVqaEfficientNetLiteModel,)
    has_attentions = False
    test_resize_embeddings = False

    def setUp(self):
        self.model_tester = LmmVqaEfficientNetLiteModelTester()
        self.config_tester = ConfigTester(
            self, config_class=LmmVqaEfficientNetLiteConfig, has_text_modality=False, common_properties=["hidden_size"]
        )

    def test_config(self):
        self.config_tester.run_common_tests()

    @unittest.skip("A convolutional tower has no token embeddings.")
    def test_model_get_set_embeddings(self):
        pass

    @unittest.skip("The tower gives its tokens alone as hidden states: the maps of its blocks differ in shape.")
    def test_hidden_states_output(self):
        pass
