"""The learning wing: what runs in the trainer process, and the only user of torch."""
