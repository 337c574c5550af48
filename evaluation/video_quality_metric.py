"""The figures of `metrics.agreement` as a metric of the evaluate library.

metric = VideoQualityMetric()  # or evaluate.load("evaluation/video_quality_metric.py"), which needs no network
metric.compute(predictions=scores, references=mos)
"""

import datasets
import evaluate

# evaluate.load runs a copy of this file, which knows no siblings
from lmmvqa.evaluation.metrics import agreement


class VideoQualityMetric(evaluate.Metric):
    """SRCC, KRCC, PLCC and RMSE, raw and after the 4-parameter logistic, with n, failures and 95 % intervals."""

    def _info(self):
        return evaluate.MetricInfo(
            description="Agreement of predicted video quality with mean opinion scores.",
            citation="",
            inputs_description=agreement.__doc__,
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}
            ),
        )

    def _compute(self, predictions, references, samples=1000, seed=0):
        return agreement(predictions, references, samples, seed)
