"""Builds the native kernels; everything else about the package stands in pyproject.toml.

The extension is optional: where no C++ compiler is, the installation goes on without it, longdoc
runs its blocked kernels instead, and `longdoc doctor` says so.
"""

from pathlib import Path

from setuptools import Extension, setup

NATIVE = "longdoc/kernels/native"

setup(
    ext_modules=[
        Extension(
            "longdoc.kernels._native",
            sources=[f"{NATIVE}/kernels.cpp"],
            depends=sorted(str(path) for path in Path(NATIVE).glob("*.inc")),
            extra_compile_args=[
                *("-O3", "-std=c++17", "-fvisibility=hidden", "-pthread", "-fno-math-errno"),
                *("-ffp-contract=fast", "-Wno-psabi", "-Wno-maybe-uninitialized"),
            ],
            extra_link_args=["-pthread"],
            language="c++",
            optional=True,
        )
    ]
)
