"""Share trained models: export with a model card, and the Hugging Face hub."""

from dhmd.publish.card import export
from dhmd.publish.hub import fetch, push

__all__ = ["export", "fetch", "push"]
