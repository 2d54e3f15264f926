"""Every tolerance of the tests, with its reason. Nothing outside this file loosens them."""

FLOAT64 = 1e-10
"""The same sums in another order, in double precision."""

SCAN_FLOAT32 = 2e-5
"""A recurrence over thousands of tokens in float32 against float64: rounding adds up; measured
about 5e-7 for short and 7e-6 for the longest documents."""

MODEL_FLOAT32 = 1e-5
"""Two float32 models with the same weights: what the project promises."""

STEP_FLOAT32 = 2e-6
"""Weights after a few optimizer steps whose gradients were summed in another order."""

BFLOAT16 = 2e-2
"""bfloat16 has eight bits: 4e-3 a rounding, a few of them in a row."""

ROUNDED_OTHERWISE = 0.005
"""Share of the numbers of a product in bfloat16 that may be the other neighbour of the exact one:
float32's sums are off by about 1e-6 of their terms, half of bfloat16's step is 2e-3 of the number,
and a few numbers are much smaller than their terms. Measured: none to 0.001."""
