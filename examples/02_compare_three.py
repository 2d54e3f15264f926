"""Compare a small backbone with two baselines and write the report.

python examples/02_compare_three.py
"""

import longdoc

comparison = longdoc.compare(
    {
        "name": "letters",
        "seeds": [0, 1],
        "baselines": False,
        "settings": {
            "data": {"dataset": "examples/letters.jsonl"},
            "tokens": {"max_tokens": 128, "vocabulary": 512},
            "training": {"epochs": 3, "batch_size": 8},
        },
        "systems": [
            {"name": "mamba-mini", "backbone": {"name": "mamba-mini"}},
            {"name": "tfidf-svm", "baseline": {"name": "tfidf-svm"}},
            {"name": "majority", "baseline": {"name": "majority"}},
        ],
    }
)
print("best:", comparison.best().name)
print("report:", longdoc.write_report(comparison, "runs/letters/report.html"))
