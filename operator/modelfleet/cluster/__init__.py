"""The only code that talks to the API server, and the view of what it said."""
