"""Generated data: a deterministic corpus with planted truth, in CMU's file format (ours).

`docs/data.md`, section "Generated data", says what is planted and by which formulas.
"""

from dhmd.data.synthetic.ceiling import ceiling
from dhmd.data.synthetic.config import GeneratorConfig
from dhmd.data.synthetic.corpus import generate

__all__ = ["GeneratorConfig", "ceiling", "generate"]
