"""Sockets, who may come, and how much anybody may send. No socket is made anywhere else, and none without CURVE."""

from discogrid.transport.connections import Connections
from discogrid.transport.doorkeeper import ZAP_DOMAIN, ZAP_ENDPOINT, Doorkeeper
from discogrid.transport.limits import (
    BLOB_FRAME_BYTES_MAX,
    CHUNK_BYTES_MAX,
    COMPLAINT_S,
    CONTROL_FRAME_BYTES_MAX,
    CURVE_OVERHEAD_BYTES,
    LINGER_MS,
    MEMBERS_REMEMBERED_MAX,
    RECEIVE_BATCH,
)
from discogrid.transport.link import Delivery, Link
from discogrid.transport.proof import proves_key
from discogrid.transport.sockets import CurveKeys, dial, dialled, listen, new_context, secure_socket

__all__ = [
    "BLOB_FRAME_BYTES_MAX",
    "CHUNK_BYTES_MAX",
    "COMPLAINT_S",
    "CONTROL_FRAME_BYTES_MAX",
    "CURVE_OVERHEAD_BYTES",
    "LINGER_MS",
    "MEMBERS_REMEMBERED_MAX",
    "RECEIVE_BATCH",
    "ZAP_DOMAIN",
    "ZAP_ENDPOINT",
    "Connections",
    "CurveKeys",
    "Delivery",
    "Doorkeeper",
    "Link",
    "dial",
    "dialled",
    "listen",
    "new_context",
    "proves_key",
    "secure_socket",
]
