"""Decoupled Hierarchical Multimodal Distillation, reproducibly."""

__version__ = "0.1.0"
