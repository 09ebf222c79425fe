"""mxbench: evaluation harness for TileLang inference kernels (Fused MoE, DeepSeek MLA, NSA)."""

__version__ = "0.1.0"
