"""Hugging Face text encoders: loading, sub-words, and contextual word vectors.

Weights are read only from safetensors, and code of a model is never run. The network is used only
to download a model that is specified by name and has no complete local copy.
"""
