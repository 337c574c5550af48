"""The model card of a trained checkpoint, filled from its run."""

import json
from collections import Counter
from dataclasses import asdict

from huggingface_hub import ModelCardData


def training_model_card(model_args, data_args, training_args, train_rows: list[dict], metrics: dict) -> str:
    """
    README.md of a checkpoint that `train.py` made: what it started from, what it saw, and what was measured.

    Args:
        model_args, data_args, training_args: the dataclasses of `train.py`.
        train_rows: rows {video, mos, dataset, ...} that were trained on.
        metrics: as `train.py` computes them.
    """
    data = Counter(row["dataset"] for row in train_rows)
    metadata = ModelCardData(
        library_name="transformers",
        pipeline_tag="video-classification",
        tags=["lmmvqa", "video-quality-assessment"],
        metrics=["spearmanr", "pearsonr"],
    )
    changed = {
        name: getattr(training_args, name)
        for name in ("learning_rate", "num_train_epochs", "per_device_train_batch_size", "weight_decay", "seed")
    }
    rows = "\n".join(
        f"| {name} | {values['n']} | {values['srcc']:.3f} | {values['plcc']:.3f} |"
        for name, values in metrics.get("validation", {}).items()
        if "srcc" in values
    )
    return f"""---
{metadata.to_yaml()}
---

# LMM-VQA

Scores the perceived quality of a video from 0 (worst) to 100 (best).

```python
from transformers import pipeline

score = pipeline("video-quality-assessment", model=".", trust_remote_code=True)
print(score("clip.mp4"))
```

Started from `{model_args.model}`; trained parts: {", ".join(model_args.train_parts)}.

Training data: {", ".join(f"{name} ({count} videos)" for name, count in sorted(data.items()))}.

Options: `{json.dumps(changed)}`, `{json.dumps(asdict(data_args))}`.

| validation set | n | SRCC | PLCC |
|---|---:|---:|---:|
{rows}
"""
