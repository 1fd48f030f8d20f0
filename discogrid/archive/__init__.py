"""Writes and reads result archives and mount trees; the only zip code, safe against hostile archives.

The standard library's zipfile rewrites or accepts most hostile names, follows extra fields that rename a member, and
parses 200,000 entries before anybody can count them. Here a reader checks every record of the whole file before the
first byte is unpacked, and a writer makes only what that reader accepts; both speak plain ZIP and ZIP64.
"""

from discogrid.archive.limits import DEFAULT_LIMITS, ArchiveLimits
from discogrid.archive.names import NameBook, check_name
from discogrid.archive.reader import Archive, open_archive
from discogrid.archive.records import Member
from discogrid.archive.trees import pack_tree, unpack_tree
from discogrid.archive.writer import ArchiveWriter, Sealed

__all__ = [
    "DEFAULT_LIMITS",
    "Archive",
    "ArchiveLimits",
    "ArchiveWriter",
    "Member",
    "NameBook",
    "Sealed",
    "check_name",
    "open_archive",
    "pack_tree",
    "unpack_tree",
]
