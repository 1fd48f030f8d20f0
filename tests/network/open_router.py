"""A router that shuts nothing: what its agent starts it by."""

from discogrid_agent.uplink.attachment import _START

_SAFE, _, _ = _START.partition("from ")
START = (
    f"{_SAFE}from discogrid_agent.uplink import off_limits, router;"
    "off_limits.private = lambda: (); off_limits.of_host = lambda *_: set(); router.CLOSED = (); router.main()"
)
