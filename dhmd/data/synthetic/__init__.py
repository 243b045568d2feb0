"""Generate a synthetic corpus with known ground truth in CMU's file format (ours).

The formulas are in docs/data.md, section "Generated data".
"""

from dhmd.data.synthetic.config import GeneratorConfig
from dhmd.data.synthetic.corpus import generate
from dhmd.data.synthetic.latents import oracle_mae

__all__ = ["GeneratorConfig", "generate", "oracle_mae"]
