"""Pure decisions: (spec, observed, now) -> an Outcome. No I/O, no clock, no client."""
