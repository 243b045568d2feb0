"""Download the raw files of a dataset: sources in order, resumed transfers, verified contents."""

from dhmd.data.download.contents import (
    RECEIVED_NAME,
    FileRecord,
    SourceError,
    check_contents,
    read_file_records,
)
from dhmd.data.download.raw_folder import (
    PLACED_FOLDER,
    RequiredFile,
    download,
    local_files,
    ordered_sources,
    required_files,
)
from dhmd.data.download.sources import Folder

__all__ = [
    "PLACED_FOLDER",
    "RECEIVED_NAME",
    "FileRecord",
    "Folder",
    "RequiredFile",
    "SourceError",
    "check_contents",
    "download",
    "local_files",
    "ordered_sources",
    "read_file_records",
    "required_files",
]
