"""Raw text to a language model, on which classifiers are built."""
