"""Changes of data, protocol or margins, named by identities that a reviewer can read and commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dhmd.gate.config import AcceptConfig

NONE = "none"


@dataclass(frozen=True)
class Change:
    """Something that differs between base and head and is not a metric.

    from_, to: identities, `corpus:<sha256>`, `protocol:<version>` or `margins:<metric>=<margin>,…`,
    `<kind>:none` where that side has none. sentence: what it means.
    """

    dataset: str
    from_: str
    to: str
    sentence: str

    def refusal(self) -> str:
        """The sentence, and the entry that would accept it."""
        return (
            f"{self.sentence}; if that is meant, commit this entry under gate.accept in "
            f'params.yaml: {{dataset: {self.dataset}, from: "{self.from_}", to: "{self.to}", '
            "reason: …}"
        )

    def accepted_by(self, entries: Sequence[AcceptConfig]) -> AcceptConfig | None:
        """The committed entry that names this very change, if there is one."""
        for entry in entries:
            if (entry.dataset, entry.from_, entry.to) == (self.dataset, self.from_, self.to):
                return entry
        return None


def corpus(sha: str | None) -> str:
    """A corpus's identity as entries name it."""
    return f"corpus:{sha or NONE}"


def protocol(version: str) -> str:
    """A protocol's identity as entries name it."""
    return f"protocol:{version}"


def margins(gated: Mapping[str, float] | None) -> str:
    """The gated metrics and their margins as entries name them, in alphabetical order."""
    if gated is None:
        return f"margins:{NONE}"
    return "margins:" + ",".join(f"{name}={value!r}" for name, value in sorted(gated.items()))
