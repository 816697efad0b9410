"""A training job: its graph of steps, each step's attempts and Jobs, the gate, and what it registers."""
