"""Every bound of the program, with its reason.

Nothing that a peer, a file or a user can make larger is unbounded. A bound lives here,
has a unit in its name where it has one, and says why it has its value.
"""

from __future__ import annotations

# --- Layouts and plans ---------------------------------------------------------------

MAX_CELLS_PER_AXIS = 32
"""Windows start and end on a grid of so many: ranges depend on the model, not on N."""

MAX_PARAMETERS = 20_000
"""Parameter tensors of one layout: ten times the largest transformer in common use."""

MAX_LAYOUT_ELEMENTS = 1 << 40
"""Elements of one model. Larger sizes can only be an overflow attempt."""

MAX_ROSTER = 1_024
"""Members of one swarm: plans are tested up to here."""

MAX_REPLICATION = 16
"""Copies that a swarm may want of everything: more would move whole models around."""

# --- Membership ----------------------------------------------------------------------

OBSERVERS = 16
"""Members that watch one and the same member: so many rarely fail together."""

MAX_ACCUSERS = 2 * OBSERVERS
"""Accusations of one member that are kept, those of its nearest: its observers are
among them, also when some of them have left the swarm since they spoke."""

MAX_ANNOUNCED_BYTES = 4 * 1024
"""What a member announces for its method: a bit for each cell of a thousand axes."""

MAX_AMOUNT = 1e300
"""Sums of magnitudes that peers state: those of the largest swarm, each divided by the
smallest split fraction, still have a finite sum."""

MAX_RECOVERIES = 256
"""Recoveries of one swarm. Each is the last resort after a catastrophe."""

MAX_REFUTED = 4
"""Former refutations that a record remembers, of as many epochs: each has outlived all
accusations that it answered by the time it is put together with its successor."""

DIGEST_BUCKETS = 64
"""Parts of the facts that are compared when two sets differ: sums of eight bytes each
fit a small message, and one new fact makes a sixty-fourth of the names travel."""

FACT_ID_BYTES = 8
"""Of a fact's hash, by which it is named: none of a million facts has another's name by
accident, and whoever looks for one on purpose signs 2^64 statements."""

MAX_NAMED_FACTS = 4_096
"""Names in one message: half of a control frame, and what a swarm of the largest size
says of itself in one and three other ones."""

MAX_FORMER_FACTS = 4_096
"""Names of facts that others have taken the place of: nobody asks for them again. Of
the largest swarm everybody's four newest."""

MAX_FACTS_ASKED_FOR = 2 * MAX_NAMED_FACTS
"""Facts that somebody was asked for and that have not come. Further ones wait for the
next comparison."""

MAX_UNTOLD_FACTS = 2 * MAX_NAMED_FACTS
"""News that waits to be told. What is dropped the others learn by comparing."""

KEPT_ROSTERS = 32
"""Rosters of different epochs that are remembered while the facts do not change."""

# --- Frames and messages -------------------------------------------------------------

MAX_CONTROL_FRAME_BYTES = 64 * 1024
"""One control message. A manifest is sent in parts on the data plane instead."""

MAX_TOGETHER = 16
"""Messages in one frame: what a peer says to another at once is rarely more, and who
counts a peer's frames must not be wrong by much."""

CHUNK_BYTES = 1 << 20
"""Payload of one data frame: large enough that per-frame cost vanishes, small enough
that a probe never waits long behind one."""

MAX_MANIFEST_BYTES = 16 << 20
"""A manifest with its layout: twenty thousand parameters at some hundred bytes each."""

SEAL_BYTES = 64
"""What sealing may add to a frame of the data plane: a counter and a tag, with room."""

MAX_VOCABULARY = 1 << 16
"""Tokens of a swarm: twice the usual benchmark's, and each still fits two bytes."""

MAX_VOCABULARY_BYTES = 1 << 20
"""All their texts, which travel in the manifest: sixteen bytes each."""

MAX_FOUND_PEERS = 256
"""Peers that are heard of in the local network: anybody there can make up more."""

MAX_NAME_CHARACTERS = 64
"""Names of peers and swarms, so that tables stay tables."""

MAX_ADDRESS_CHARACTERS = 255
"""A host name's own limit, with its port."""

MAX_REFUSED_CHARACTERS = 500
"""Why a peer is not let in, in words, with the addresses of whom it should ask."""

# --- Transfers -----------------------------------------------------------------------

CREDIT_CHUNKS = 8
"""Chunks that one stream may have in flight: covers 8 MiB, the product of one gigabit
per second and 64 ms, and bounds what a slow receiver must buffer."""

MAX_PARKED_REQUESTS_PER_PEER = 64
"""Requests of one peer that wait for data: two rounds of every kind, generously."""

MAX_HELD_PIECES = 2 * CREDIT_CHUNKS * MAX_PARKED_REQUESTS_PER_PEER
"""Pieces for one peer whose turn to leave has not come: all that it may have asked for,
twice. What a peer claims credit for beyond is lost, and may be asked for again."""

CHECKPOINT_PIECE_BYTES = 256 * 1024
"""Of a checkpoint that a newcomer gets from a member, so much travels at once: the
member reads it from its disk between two turns of its loop, for each newcomer."""

MAX_CHECKPOINT_BYTES = 16 << 30
"""A checkpoint that members give to newcomers: four billion values. A larger one is
brought by hand."""

MAX_TABLE_BYTES = 256 << 20
"""The table of homes that a newcomer pulls: a thousand peers of a large model."""

# --- Strangers and budgets -----------------------------------------------------------

MAX_GUEST_FRAME_BYTES = 8 * 1024
"""The one message of somebody who is not known to be a member: a greeting with a record
and the proof of an invitation has about one KiB, and what a member has announced four
more."""

MAX_GUESTS = 32
"""Connections of invited or knocking strangers that are listened to at once; more wait
in the handshake, where they cost no memory of ours."""

MAX_GUESTS_PER_SOURCE = 8
"""Strangers of one source address that are let in and have not said anything yet."""

MAX_PARKED_HANDSHAKES = 256
"""Handshakes with an unknown key that wait in case the key's owner is admitted in this
moment. Beyond, the oldest is left without an answer."""

UNKNOWN_KEY_PATIENCE_S = 2.0
"""How long such a handshake waits: news of a newcomer is faster, and nobody who knocks
in vain should wait long to hear so."""

HANDSHAKES_PER_SECOND = 20
"""Handshakes that one source address may begin per second in the long run: each costs
some tenths of a millisecond of public-key work."""

HANDSHAKE_BURST = 256
"""... and at once: a swarm on one machine, or behind one router, starting together."""

MAX_HALF_OPEN_PER_SOURCE = 128
"""Accepted connections of one source address that have not delivered anything yet."""

MAX_CONNECTIONS_PER_SOURCE = 512
"""Connections of one source address and plane: more members do not share a router."""

MAX_CONNECTIONS = 2_048
"""Connections of one plane, whatever their source: every member twice."""

MAX_CONNECTIONS_PER_PEER = 4
"""Control connections of one member: two knocks beside the newest and the one before,
which its kernel may not have given up yet."""

FIRST_MESSAGE_TIMEOUT_S = 15.0
"""How long an accepted control connection may deliver nothing: three handshakes. A
guest that was silent for as long gives way to another."""

CONTROL_MESSAGES_PER_SECOND = 2_000
"""Control messages of one member in the long run: ten times what the largest swarm's
busiest round needs. What is above is dropped and counted."""

CONTROL_MESSAGE_BURST = 8_000
"""... and at once: every fact of the largest swarm, and all offers of a round."""

MAX_UNDELIVERED_BYTES = 64 * MAX_CONTROL_FRAME_BYTES
"""Bytes that a member's control connection may have sent and not completed as messages.
ZeroMQ bounds a frame and the number of messages, but not a message without an end."""

MAX_FIRST_BYTES = 1 << 20
"""The same bound for connections that have not delivered anything yet, where members
come from the same source: the first word of one that comes back may be a long one."""

MAX_GUEST_BYTES = 16 * 1024
"""The same bound before a connection has shown whose it is, and for guests: a handshake
and a greeting."""

GUARD_INTERVAL_S = 0.05
"""Shortest time between two looks at what the connections have sent: 6 MiB on a line of
one gigabit per second."""

GUARD_PER_CONNECTION_S = 0.0004
"""... and for each connection that there is: a look takes some microseconds, so that
all looks together take one hundredth of a processor at most."""

GUARD_IDLE_S = 0.25
"""Longest time between two looks while nothing else happens."""

CONTROL_BUFFER_BYTES = 256 * 1024
"""The kernel's receive buffer of a control connection: four frames, and less than it
would grow to by itself for somebody who is not listened to."""

DATA_BUFFERS = 64
"""Receive buffers of one chunk each, shared by all data connections. A connection that
finds none waits, and TCP holds its sender back."""

DATA_FRAME_TIMEOUT_S = 30.0
"""So often a message on the data plane that began must have grown ..."""

DATA_FRAME_GROWTH_BYTES = 4 * 1024
"""... by so much: what the slowest line brings for each of several streams. Whoever
holds a buffer has to send for it, or has sent what we have not read yet."""

MIN_CAP_BYTES_PER_S = 16 * 1024
"""The lowest cap on bulk: slower, a round would not end in a day."""

MAX_CAP_BYTES_PER_S = 1 << 40
"""Beyond, a cap is a slip of the pen."""

DATA_SEND_BYTES = 16 << 20
"""Bytes that wait for one peer's data connection: two streams' credits."""

DATA_WRITE_BYTES = 2 * CHUNK_BYTES
"""Bytes offered to the kernel in one poll for one connection; then others."""

MAX_ACCEPTS_PER_POLL = 64
"""Connections accepted at once; more wait in the kernel for the next poll."""

ACCEPT_PAUSE_MS = 100
"""How long nobody is accepted after descriptors ran out: who waits would wake us."""

MAX_LOOKUPS = 4
"""Host names looked up at once, each in a thread: a name whose server does not answer
takes half a minute, and holds up only what is behind it."""

MAX_BANNER_BYTES = 512
"""What a peer that takes strangers says of itself on its data port: ids and keys."""

# --- Gossip --------------------------------------------------------------------------

MAX_FLOODED = 64
"""Members up to which news goes from each to all. In larger swarms each tells a few,
because everybody telling everybody costs the square of their number."""

FAN_OUT = 4
"""Others that are told in a larger swarm: forty-nine of fifty members hear it so, and
the rest by comparing digests."""

MAX_RELAYED_PROBES = 1_024
"""Probes under way that others asked for; further ones are not made."""

# --- Identities and tickets ----------------------------------------------------------

REPLAY_WINDOW = 8_192
"""Sequence numbers behind the newest that are remembered; older ones are refused."""

MAX_STATEMENT_BYTES = 2_304
"""One signed statement: names and addresses are bounded, and so is their sum."""

MAX_RECORD_BYTES = MAX_STATEMENT_BYTES + MAX_ANNOUNCED_BYTES + 16
"""A record, with what its subject announces and since when."""

MAX_START_BYTES = 48 * 1024
"""The founder's list of first members, or an admin's of lost ones: a roster's ids."""

MAX_CLOSING_BYTES = 48 * 1024
"""The list of the updates of a round: 36 bytes for each member of the largest swarm."""

MAX_CHAIN_BYTES = 2_048
"""A chain of admissions: four links of two keys, swarm, invitation and signature."""

MAX_CHAIN_LINKS = 4
"""Admissions between founder and member: admins may admit admins, not for ever."""

MAX_TICKET_CHARACTERS = 4_096
"""A ticket with eight addresses of the longest kind."""

MAX_TICKET_ADDRESSES = 8
"""Addresses in one ticket: several networks, IPv4 and IPv6."""

MAX_INVITES = 1_024
"""Invitations that one admin keeps, spent and revoked ones included."""

MAX_PENDING = 64
"""Strangers that wait for a decision; further ones are told to come back."""

TICKET_CLOCK_TOLERANCE_S = 300.0
"""Clocks of ordinary machines differ so much: an expiry is judged this much later."""

REKEY_AFTER_CHUNKS = 1 << 32
"""Chunks under one key. The bound on what AES-GCM may seal lies far above."""

# --- Local interfaces ----------------------------------------------------------------

MAX_LOCAL_REQUEST_BYTES = 1 << 20
"""One request line on the local control socket."""

MAX_LOCAL_CLIENTS = 64
"""Simultaneous clients of the local control socket."""

MAX_TRAINER_LINE_BYTES = 64 << 20
"""One line from the trainer: a layout of twenty thousand parameters fits."""

ROUND_HISTORY = 1_000
"""Rounds that ``rounds`` can show; older ones are in the log."""

WINDOW_HISTORY = 200
"""Rounds of which it is known who trained what: as many as a picture has columns."""

MAX_WINDOW_MASKS = 8_192
"""Of one round: a peer and an axis are one mask, and a swarm of the largest size is
shown with its first axes."""

MAX_EVENTS_IN_MEMORY = 4_096
"""Events that ``events`` can show: some hours of a busy swarm."""

MAX_EVENTS_FILE_BYTES = 2 << 20
"""The file of events is set aside when it is larger, in place of the one before."""

MAX_COUNTED_REASONS = 64
"""Reasons of refusal that are counted apart: some name who was lied about."""

# --- Training ------------------------------------------------------------------------

MAX_CONTRAST_WEIGHT = 1_000.0
"""Of the contrastive term, or of an alignment: all else counts for nothing then."""

MIN_CONTRAST_TEMPERATURE, MAX_CONTRAST_TEMPERATURE = 0.001, 1_000.0
"""Below, only the nearest counts; above, all are alike."""

MAX_DISTILLATION_ROUND = 1_000_000
"""From which round on exits may be taught at the latest: beyond all training."""

MAX_CONTRAST_PREVIOUS = 16
"""Past sub-models that a peer compares with: each is a copy in the trainer's memory."""

MIN_VIEW_CROP = 0.01
"""Of an image's area: smaller crops are of one pixel, and show nothing."""

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
"""A trainer that dies so often before there is a swarm: the daemon ends and says so."""

TRAINER_STOP_S = 2.0
"""A trainer in the middle of a step may need so long to notice that it should end."""

MAX_LOG_BYTES = 8 << 20
"""One file of the daemon's log: a line per phase of a round, for weeks."""

KEPT_LOGS = 3
"""Older log files that are kept."""

MAX_DESCRIPTORS = 16_384
"""Open files of a daemon, if the system allows: six per peer, and the store's maps."""

# --- Simulation ----------------------------------------------------------------------

MAX_FAULTS = 10_000
"""Faults of one script: more than a simulation of a day could show."""

MAX_NEWCOMERS = 1_000
"""Peers that join at once by one fault: a roster has no room for more."""

MAX_VIOLATIONS = 100
"""Violations of one simulation that are kept: one mistake tends to show often."""

MAX_EVENTS_AT_ONCE = 1_000_000
"""Simulated events at the same instant; with more, time would never pass."""
