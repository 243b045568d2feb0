"""Get a corpus's files: ordered sources, resumed transfers, one verified folder."""

from dhmd.data.download.contents import (
    RECEIVED_NAME,
    FileRecord,
    SourceFailure,
    check_contents,
    read_received,
)
from dhmd.data.download.gathering import (
    PLACED_FOLDER,
    Wanted,
    download,
    local_files,
    ordered_sources,
    wanted_files,
)
from dhmd.data.download.sources import Folder

__all__ = [
    "PLACED_FOLDER",
    "RECEIVED_NAME",
    "FileRecord",
    "Folder",
    "SourceFailure",
    "Wanted",
    "check_contents",
    "download",
    "local_files",
    "ordered_sources",
    "read_received",
    "wanted_files",
]
