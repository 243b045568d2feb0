"""Getting a corpus's files: ordered sources, resumed transfers, one verified folder."""

from dhmd.sources.earlier import received_before
from dhmd.sources.gathering import download
from dhmd.sources.manifest import read_manifest, write_manifest
from dhmd.sources.pin import pin

__all__ = ["download", "pin", "read_manifest", "received_before", "write_manifest"]
