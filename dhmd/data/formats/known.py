"""Published files, recognised by content (source: MMSA's README)."""

from __future__ import annotations

_KNOWN = {
    "78e0f8b5ef8ff71558e7307848fc1fa929ecb078203f565ab22b9daab2e02524": (
        "MMSA's MOSI/Processed/unaligned_50.pkl"
    ),
    "d3994fd25681f9c7ad6e9c6596a6fe9b4beb85ff7d478ba978b124139002e5f9": (
        "MMSA's MOSI/Processed/aligned_50.pkl"
    ),
    "ad8b23d50557045e7d47959ce6c5b955d8d983f2979c7d9b7b9226f6dd6fec1f": (
        "MMSA's MOSEI/Processed/unaligned_50.pkl"
    ),
    "45eccfb748a87c80ecab9bfac29582e7b1466bf6605ff29d3b338a75120bf791": (
        "MMSA's MOSEI/Processed/aligned_50.pkl"
    ),
    "c9e20c13ec0454d98bb9c1e520e490c75146bfa2dfeeea78d84de047dbdd442f": (
        "MMSA's SIMS/Processed/unaligned_39.pkl"
    ),
    "e188466f104ad789e060762ecf42c3c8210fce4b55430289707b70fcbdac3f6e": (
        "ICT-MMMO, 120 reviews, 20 aligned steps, MMSA-style"
    ),
}


def known_file(sha256: str) -> str | None:
    """What the file with this sha256 is, or None for one that was never published."""
    return _KNOWN.get(sha256)
