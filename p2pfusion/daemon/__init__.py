"""The process that a peer is: protocol, transport, store and local socket."""
