"""A deterministic synthetic corpus with a known ground truth, in CMU's file format (ours).

`docs/data.md`, section "Generated data", gives the formulas.
"""

from dhmd.data.synthetic.config import GeneratorConfig
from dhmd.data.synthetic.corpus import generate
from dhmd.data.synthetic.latents import oracle_mae

__all__ = ["GeneratorConfig", "generate", "oracle_mae"]
