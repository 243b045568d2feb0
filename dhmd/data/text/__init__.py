"""Text encoders of Hugging Face: loading one, sub-words, and contextual vectors of words.

Weights are read from safetensors only, a model's own code never runs, and the network is used only
for a model given by name that has no complete local copy.
"""
