"""Who belongs to a grid: the roster its owner signs, how a node keeps it, and what only the owner does.

roster  what is signed, and what it says of a node
keeper  the newest roster a process knows, kept on disk; an older one is refused
owner   the key that signs rosters: admit, revoke, renew
vault   that key under a passphrase: back up, restore, hand over
"""
