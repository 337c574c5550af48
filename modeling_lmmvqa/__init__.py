# Copyright 2026 The LMM-VQA authors. All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""LMM-VQA's network. Importing it makes the Auto classes and `pipeline` know LMM-VQA, so no remote code is needed."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForDecision,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoProcessor,
)

# At top level it exists only where torchvision is installed
from transformers.models.auto.video_processing_auto import AutoVideoProcessor
from transformers.pipelines import PIPELINE_REGISTRY

from ..processing.answers_lmmvqa import QualityResult
from ..processing.processing_lmmvqa import LmmVqaProcessor
from ..processing.video_processing_lmmvqa import LmmVqaVideoProcessor
from .configuration_lmmvqa import LmmVqaConfig, LmmVqaEfficientNetLiteConfig, LmmVqaSlowFastConfig
from .modeling_efficientnet_lite import LmmVqaEfficientNetLiteModel
from .modeling_lmmvqa import LmmVqaForConditionalGeneration, LmmVqaForDecision, LmmVqaModel, LmmVqaPreTrainedModel
from .modeling_slowfast import LmmVqaSlowFastModel
from .pipeline_lmmvqa import VideoQualityAssessmentPipeline


AutoConfig.register(LmmVqaConfig.model_type, LmmVqaConfig, exist_ok=True)
AutoModel.register(LmmVqaConfig, LmmVqaModel, exist_ok=True)
AutoModel.register(LmmVqaSlowFastConfig, LmmVqaSlowFastModel, exist_ok=True)
AutoModel.register(LmmVqaEfficientNetLiteConfig, LmmVqaEfficientNetLiteModel, exist_ok=True)
AutoModelForImageTextToText.register(LmmVqaConfig, LmmVqaForConditionalGeneration, exist_ok=True)
AutoModelForMultimodalLM.register(LmmVqaConfig, LmmVqaForConditionalGeneration, exist_ok=True)
AutoModelForDecision.register(LmmVqaConfig, LmmVqaForDecision, exist_ok=True)
AutoVideoProcessor.register(LmmVqaConfig, LmmVqaVideoProcessor, exist_ok=True)
AutoProcessor.register(LmmVqaConfig, LmmVqaProcessor, exist_ok=True)
PIPELINE_REGISTRY.register_pipeline(
    "video-quality-assessment",
    pipeline_class=VideoQualityAssessmentPipeline,
    pt_model=AutoModelForImageTextToText,
    type="multimodal",
)

# Wherever they are saved, by `save_pretrained`, `push_to_hub` or Trainer, their code is saved with them
LmmVqaConfig.register_for_auto_class("AutoConfig")
LmmVqaForConditionalGeneration.register_for_auto_class("AutoModelForImageTextToText")
LmmVqaVideoProcessor.register_for_auto_class("AutoVideoProcessor")
LmmVqaProcessor.register_for_auto_class("AutoProcessor")

__all__ = [
    "LmmVqaConfig",
    "LmmVqaEfficientNetLiteConfig",
    "LmmVqaEfficientNetLiteModel",
    "LmmVqaForConditionalGeneration",
    "LmmVqaForDecision",
    "LmmVqaModel",
    "LmmVqaPreTrainedModel",
    "LmmVqaProcessor",
    "LmmVqaSlowFastConfig",
    "LmmVqaSlowFastModel",
    "LmmVqaVideoProcessor",
    "QualityResult",
    "VideoQualityAssessmentPipeline",
]
