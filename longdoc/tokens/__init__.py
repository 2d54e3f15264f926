"""Text to padded batches of token numbers."""
