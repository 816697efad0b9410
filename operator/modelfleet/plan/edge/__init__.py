"""A fleet moved from one revision to the next: who is on what, who is next, and what is said of it."""
