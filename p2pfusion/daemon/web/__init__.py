"""The web page of a daemon: a small server that only reads, and the page itself."""
