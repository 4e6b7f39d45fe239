"""One peer's behaviour as a pure function: events in, effects out."""
