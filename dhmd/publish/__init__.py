"""Share trained models: export them with a model card, and use the Hugging Face hub."""

from dhmd.publish.card import export
from dhmd.publish.hub import fetch, push

__all__ = ["export", "fetch", "push"]
