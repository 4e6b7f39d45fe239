"""Every bound of the program, with its reason.

Nothing that a peer, a file or a user can make larger is unbounded. A bound lives here,
has a unit in its name where it has one, and says why it has its value.
"""

from __future__ import annotations

# --- Layouts and plans ---------------------------------------------------------------

MAX_CELLS_PER_AXIS = 32
"""Windows start and end on a grid of at most this many cells per axis, so that the
number of ranges of a plan depends on the model and not on the size of the swarm."""

MAX_PARAMETERS = 20_000
"""Parameter tensors of one layout: ten times the largest transformer in common use."""

MAX_LAYOUT_ELEMENTS = 1 << 40
"""Elements of one model. Larger sizes can only be an overflow attempt."""

MAX_ROSTER = 1_024
"""Members of one swarm: plans are tested up to here."""

# --- Frames and messages -------------------------------------------------------------

MAX_CONTROL_FRAME_BYTES = 64 * 1024
"""One control message. A manifest is sent in parts on the data plane instead."""

CHUNK_BYTES = 1 << 20
"""Payload of one data frame: large enough that per-frame cost vanishes, small enough
that a probe never waits long behind one."""

MAX_DATA_FRAME_BYTES = CHUNK_BYTES + 4_096
"""A chunk and its header."""

MAX_MANIFEST_BYTES = 16 << 20
"""A manifest with its layout: twenty thousand parameters at some hundred bytes each."""

MAX_NAME_CHARACTERS = 64
"""Names of peers and swarms, so that tables stay tables."""

MAX_ADDRESS_CHARACTERS = 255
"""A host name's own limit, with its port."""

# --- Transfers -----------------------------------------------------------------------

CREDIT_CHUNKS = 8
"""Chunks that one stream may have in flight: covers 8 MiB, the product of one gigabit
per second and 64 ms, and bounds what a slow receiver must buffer."""

MAX_PARKED_REQUESTS_PER_PEER = 64
"""Requests of one peer that wait for data: two rounds of every kind, generously."""

MAX_TABLE_BYTES = 256 << 20
"""The table of homes that a newcomer pulls: a thousand peers of a large model."""

# --- Local interfaces ----------------------------------------------------------------

MAX_LOCAL_REQUEST_BYTES = 1 << 20
"""One request line on the local control socket."""

MAX_LOCAL_CLIENTS = 64
"""Simultaneous clients of the local control socket."""

MAX_TRAINER_LINE_BYTES = 64 << 20
"""One line from the trainer: a layout of twenty thousand parameters fits."""

ROUND_HISTORY = 1_000
"""Rounds that ``rounds`` can show; older ones are in the log."""

# --- Transport -----------------------------------------------------------------------

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

DATA_RECEIVE_QUEUE_MESSAGES = 8
"""Chunks of one peer that wait for us: one stream's credits."""

KNOCK_QUEUE_MESSAGES = 4
"""Knocks that wait for an address where nobody answers; more say nothing new."""

MAX_KNOCKS = 16
"""Addresses that are knocked at simultaneously; the oldest gives way."""

MAX_CONTROL_MESSAGES_PER_POLL = 64
"""Control messages handed over at once, so that timers and data get their turn."""

MAX_DATA_MESSAGES_PER_POLL = 16
"""Chunks handed over at once: 16 MiB, some ten milliseconds of work."""

MAX_COUNTED_PEERS = 2 * MAX_ROSTER
"""Names with traffic counters of their own, since a sender chooses its name itself."""

ZERO_COPY_BYTES = 64 * 1024
"""Frames from this size on are sent from the caller's memory: below, a copy is cheaper
than the bookkeeping."""

RECONNECT_INTERVAL_MS = 100
"""First pause before a lost connection is tried again."""

RECONNECT_CEILING_MS = 2_000
"""Longest such pause: a peer that comes back is reached within two seconds, and a dead
one costs one packet per second."""

CONNECT_TIMEOUT_MS = 5_000
"""How long one attempt to connect may take: several packet losses on a slow line."""

HANDSHAKE_TIMEOUT_MS = 5_000
"""How long an accepted connection may stay silent before it is dropped."""

PEER_SILENCE_MS = 30_000
"""Unacknowledged data or keepalive probes for this long end a connection."""

KEEPALIVE_IDLE_S = 10
"""Silence after which the kernel asks whether the other side is still there."""

HEARTBEAT_INTERVAL_MS = 5_000
"""Heartbeats on control connections, for the systems whose kernel does not ask."""

HEARTBEAT_TIMEOUT_MS = 15_000
"""Three lost heartbeats end a control connection."""

CLOSE_LINGER_MS = 500
"""How long closing may take so that the last words still leave."""

# --- Local sockets -------------------------------------------------------------------

MAX_SOCKET_PATH_BYTES = 100
"""Path of the control socket: the smallest kernel limit in use is 104, with the end."""

MAX_LOCAL_REPLY_BYTES = 64 << 20
"""Lines that wait for one local client; one that does not read them is dropped."""

MAX_TRAINER_LOG_BYTES = 8 << 20
"""The trainer's log is set aside, once, when it is larger at a trainer's start."""

TRAINER_LOG_TAIL_LINES = 20
"""Lines of the log that are shown when a trainer dies: a traceback fits."""

TRAINER_REAP_S = 0.25
"""How long the loop waits for the exit code of a trainer that hung up."""

TRAINER_TERMINATE_S = 1.0
"""Time between the polite and the final signal to a trainer that does not leave."""

MAX_TRAINER_RESTARTS = 5
"""A trainer that dies so often will die again: the daemon ends and says so."""

TRAINER_STOP_S = 2.0
"""A trainer in the middle of a step may need so long to notice that it should end."""

MAX_LOG_BYTES = 8 << 20
"""One file of the daemon's log: a line per phase of a round, for weeks."""

KEPT_LOGS = 3
"""Older log files that are kept."""

MAX_DESCRIPTORS = 16_384
"""Open files of a daemon, as far as the system allows: half a dozen for each of a
thousand peers, and room for the store's maps."""
