"""Getting a corpus's files: ordered sources, resumed transfers, one verified folder."""

from dhmd.data.download.gathering import download
from dhmd.data.download.manifest import read_manifest, write_manifest
from dhmd.data.download.pin import pin

__all__ = ["download", "pin", "read_manifest", "write_manifest"]
