"""A Hugging Face encoder of text: where it lies, what it is, its words' sub-words and vectors.

Weights are read from safetensors only, code that a model brings along never runs, and the network
is asked for a model by name only where no local copy of it is complete.
"""
