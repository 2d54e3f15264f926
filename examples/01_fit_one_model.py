"""Fit one small model on own documents and ask it about a new one; takes a few seconds.

python examples/01_fit_one_model.py
"""

import longdoc

run = longdoc.train(
    {
        "data": {"dataset": "examples/letters.jsonl"},
        "tokens": {"max_tokens": 128, "vocabulary": 512},
        "backbone": {"name": "mamba-mini"},
        "training": {"epochs": 3, "batch_size": 8},
    }
)
print("micro-F1 on the test letters:", run.metrics["splits"]["test"]["per-label"]["micro-f1"])
for prediction in longdoc.predict(run, ["The heating is broken and I want my deposit back."]):
    print(prediction.labels, prediction.scores)
