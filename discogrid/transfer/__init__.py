"""Moves blobs between stores over sockets of their own, so that a gigabyte never delays a heartbeat.

The receiver drives: it asks for chunks it has room for, in turn for each blob, and verifies the digest of the whole.
A blob of one chunk takes one round trip.
"""

from discogrid.transfer.client import BlobClient, Patience, dial_blobs
from discogrid.transfer.server import BlobServer
from discogrid.transfer.small import pack_small, unpack_small

__all__ = ["BlobClient", "BlobServer", "Patience", "dial_blobs", "pack_small", "unpack_small"]
