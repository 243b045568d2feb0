"""Generated data: a deterministic corpus with planted truth, in CMU's file format (ours).

`docs/data.md`, section "Generated data", says what is planted and by which formulas.
"""

from dhmd.generated.ceiling import ceiling
from dhmd.generated.config import GeneratorConfig
from dhmd.generated.corpus import generate

__all__ = ["GeneratorConfig", "ceiling", "generate"]
