"""A short training on the example letters, and predicting with what it left."""

import pytest

import longdoc

LETTERS = "examples/letters.jsonl"


def trained_on_letters(name, folder):
    return longdoc.train(
        {
            "data": {"dataset": LETTERS, "train_documents": 24},
            "tokens": {"max_tokens": 32},
            "backbone": {"name": name},
            "training": {"epochs": 1, "batch_size": 8, "precision": "float32"},
        },
        folder,
    )


def assert_predicts_again(run):
    """Assert that the run folder alone gives the scores that training gave."""
    test = run.predictions()["test"]
    text = longdoc.load_dataset(LETTERS).splits["test"][0].text
    (again,) = longdoc.predict(run, [text])
    for column, label in enumerate(test.labels):
        assert again.scores[label] == pytest.approx(float(test.scores[0, column]), abs=1e-4)
