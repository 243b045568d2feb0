"""Decoupled Hierarchical Multimodal Distillation, reproducibly."""

__version__ = "0.2.0"
