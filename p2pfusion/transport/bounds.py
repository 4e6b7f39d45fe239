"""Bounds of sockets and connections, each with its reason.

Those that other layers share are in ``p2pfusion/limits.py``.
"""

from __future__ import annotations

from p2pfusion.limits import MAX_ROSTER

MAX_PEER_ID_CHARACTERS = 64
"""A sender's name on a connection: the base32 of a hash with check characters fits."""

MAX_FRAMES_PER_MESSAGE = 16
"""Frames of one message. The protocol uses two: a header and a chunk."""

CONTROL_SEND_QUEUE_MESSAGES = 256
"""Control messages that wait for one peer: a flood of news about every member of a
medium swarm fits, and a peer that never answers costs at most 16 MiB."""

CONTROL_RECEIVE_QUEUE_MESSAGES = 64
"""Control messages of one peer that wait for us, before TCP holds the peer back."""

DATA_SEND_QUEUE_MESSAGES = 64
"""Chunks that wait for one peer: twice the credits of four streams, because ZeroMQ
gives room back by halves. A full queue means a peer that does not read."""

REMEMBERED_MESSAGES = 64
"""Of the messages that the kernel has taken, so many are known until the other side has
acknowledged them: several times the chunks that a kernel's buffer holds."""

DATA_SIGN_MS = 500
"""While a message arrives that takes longer, the layers above hear so often that its
bytes come: a quarter of the silence after which they would ask for it again."""

CAP_QUANTA_PER_S = 50
"""Under a cap whoever waits in line moves this part of a second's bytes at once."""

CAP_QUANTUM_BYTES = 1_024
"""... but no less: a packet's worth. At the lowest cap each of thirty peers then still
hears every two seconds that bytes come."""

CAP_QUANTUM_CEILING_BYTES = 1 << 20
"""... and no more than a chunk."""

CAP_BURST_MS = 250
"""What a cap lets through at once after a pause: so long the loop may be busy with
something else, and the line is still used to the full."""

KNOCK_QUEUE_MESSAGES = 4
"""Knocks that wait for an address where nobody answers; more say nothing new."""

MAX_KNOCKS = 16
"""Addresses that are knocked at simultaneously; the oldest gives way."""

KNOCK_LIFETIME_S = 60.0
"""A connection that nobody knocks with any more is closed: guests' places are few."""

KNOCK_HANDSHAKE_MS = 4_000
"""How long a knock waits in the handshake: less than the other side does, so that who
waited there in vain was not hung up on, and does not think so."""

MAX_CONTROL_MESSAGES_PER_POLL = 64
"""Control messages handed over at once, so that timers and data get their turn."""

MAX_CONTROL_BYTES_PER_POLL = 256 * 1024
"""... and in all: four of the largest, each of which is milliseconds of work."""

MAX_DATA_MESSAGES_PER_POLL = 16
"""Chunks handed over at once: 16 MiB, some ten milliseconds of work."""

MAX_SOCKET_EVENTS_PER_POLL = 1_024
"""Connections begun or ended, and handshakes, that are looked at at once."""

PORT_TRIES = 32
"""Free ports that are tried until one is found whose successor is free as well."""

MAX_COUNTED_PEERS = 2 * MAX_ROSTER
"""Names with traffic counters of their own, since a sender chooses its name itself."""

RECONNECT_INTERVAL_MS = 100
"""First pause before a lost connection is tried again."""

RECONNECT_CEILING_MS = 2_000
"""Longest such pause: a peer that comes back is reached within two seconds, and a dead
one costs one packet per second."""

LOST_LINK_S = 1.0
"""A connection that ended and is not tried again for this long has been refused; ZeroMQ
tries others again at once, after their pause."""

CONNECT_TIMEOUT_MS = 5_000
"""How long one attempt to connect may take: several packet losses on a slow line."""

HANDSHAKE_TIMEOUT_MS = 5_000
"""How long an accepted connection may stay silent before it is dropped."""

PEER_SILENCE_MS = 30_000
"""Unacknowledged data or keepalive probes for this long end a connection."""

KEEPALIVE_IDLE_S = 10
"""Silence after which the kernel asks whether the other side is still there."""

KEEPALIVE_PROBES = 2
"""Unanswered questions that end a connection: with the silence before, 30 s."""

LAST_WORD_LINGER_MS = 3_000
"""How long the last message to a peer that is forgotten may try to leave: to one that
was never connected, that takes a handshake of several round trips."""

MAX_STANDING_PER_PEER = 2
"""Connections that one peer keeps standing by here: one, and a newer one of which its
kernel knows already that the first is dead."""

MAX_CIRCUITS = 256
"""Circuits of others through this peer: two of each plane for sixty pairs of peers that
can only dial out. What they hold is bounded by twice ``SPLICE_BYTES`` each."""

MAX_CIRCUITS_PER_PEER = 128
"""Of these the ones that one peer has asked for: half, so that nobody has them all."""

MAX_CIRCUIT_REQUESTS_PER_PEER = 8
"""Requests for circuits of one peer that are not whole; its oldest gives way."""

SPLICE_BYTES = 64 * 1024
"""What one direction of two joined connections holds: half of what the kernel does."""

CLAIM_TIMEOUT_MS = 3_000
"""How long a connection that stands by is waited for: its owner dials again when one is
taken, and after a break within ``RECONNECT_CEILING_MS``. Less than a handshake's time,
so that who waits for the answer hears that there is none."""

MAX_GATE_CONNECTIONS = 4
"""Connections of this machine that are led through one gate: those of one line that was
replaced, and of the newest."""

RESERVED_DESCRIPTORS = 256
"""Files of the store, connections to members, and all else but those that come in."""

LEAST_CONNECTIONS = 16
"""Connections of one plane that are let in however few files there may be."""

LISTEN_BACKLOG = 1_024
"""Connections that the kernel holds until they are accepted: every member of a swarm
that starts at once. Linux's own limit is 4,096."""

CLOSE_LINGER_MS = 500
"""How long closing may take so that the last words still leave."""
