"""Every bound of a socket, with its unit. What each one is against: docs/adr/0014."""

from discogrid.wire import PACKED_BYTES_MAX

CURVE_OVERHEAD_BYTES = 1024  # a frame's box and flags count against MAXMSGSIZE
CONTROL_FRAME_BYTES_MAX = PACKED_BYTES_MAX + CURVE_OVERHEAD_BYTES
CHUNK_BYTES_MAX = 1 << 20
BLOB_FRAME_BYTES_MAX = CHUNK_BYTES_MAX + CURVE_OVERHEAD_BYTES
QUEUE_MESSAGES_MAX = 10_000  # a peer, each direction
BLOB_QUEUE_MESSAGES_MAX = (
    64  # the same where a message is a chunk: a peer that does not read costs 64 MiB, not 10 GiB
)
RECEIVE_BATCH = 256  # messages before other work gets a turn
BLOB_RECEIVE_BATCH = 8  # the same where a message is a chunk that takes most of a millisecond

HANDSHAKE_MS = 2_000  # a silent connection is gone after this
CONNECT_MS = 3_000  # else a host that was away is asked at ever longer intervals, of up to a minute
PING_MS = 3_000
PING_TIMEOUT_MS = 9_000  # the connection to a host without power is given up after both: 12 s (silence.py)
RECONNECT_MS = 100
RECONNECT_MS_MAX = 2_000
LINGER_MS = 500  # how long a last goodbye may take to leave
SOCKETS_MAX = 4_096

CONNECTIONS_PENDING_MAX = 128  # that the kernel has taken and we have not
CONNECTIONS_ADDRESS_MAX = 1_024  # at once from one host (IPv6: one /64): a lab behind one router fits
CONNECTIONS_MEMBER_MAX = 256  # at once of one key
CONNECTS_BURST = 2_048  # from one host at once, as after a restart of the coordinator
CONNECTS_S_MAX = 64.0  # from one host, lasting
ADDRESSES_MAX = 10_000  # remembered
FILES_RESERVE = 3_000  # descriptors that no connection gets: files of ours, and accepts not yet counted
FILES_FEW = 4_096  # fewer allowed to the process than this is worth a warning
MONITOR_EVENTS_MAX = 256  # not yet counted; then accepting waits

UNREAD_BYTES_MAX = 128 << 20  # sent by one connection and not delivered as a whole message
UNREAD_BYTES_ALL_MAX = 1 << 30  # the same of all connections of a socket that a member was heard by
UNHEARD_BYTES_ALL_MAX = (
    256 << 20
)  # the same of all others together: strangers, and members that have just come
UNTAKEN_BYTES_MAX = 128 << 20  # sent to one connection and not taken by its peer
UNTAKEN_BYTES_ALL_MAX = 1 << 30  # the same of all connections of a socket
IDLE_BYTES_S = 32.0  # of pings, which are read and delivered to nobody
SCAN_MS = 100  # at most this late memory that grows is looked at
SCAN_IDLE_S = 2.0  # the same while it does not grow
SCAN_GROWTH_BYTES = 16 << 20

MESSAGES_BURST = 40_000  # of one member
MESSAGES_S_MAX = 20_000.0  # of one member, lasting; twice what a client submits that does nothing else
MEMBERS_REMEMBERED_MAX = 20_000
COMPLAINT_S = 10.0  # between two lines about the same member's excess
