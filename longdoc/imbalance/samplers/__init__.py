"""Which documents an epoch has: one file a sampler."""
