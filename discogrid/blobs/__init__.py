"""Files by content: a folder of blobs, each verified before it is there, least recently used first to go."""

from discogrid.blobs.digests import digest_of, is_digest
from discogrid.blobs.incoming import Incoming
from discogrid.blobs.store import BlobStore

__all__ = ["BlobStore", "Incoming", "digest_of", "is_digest"]
