"""What can go wrong when talking to the API server, as one small tree."""


class ClusterError(Exception):
    """Base of all errors of this package."""


class ApiError(ClusterError):
    """The API server answered with an error, or (``code`` 0) did not answer."""

    def __init__(self, code: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{code} {reason}: {message}" if code else message)
        self.code = code
        """HTTP status; 0 when there was no answer."""
        self.reason = reason
        """The machine-readable reason of the Status, as ``AlreadyExists``."""
        self.message = message
        """The server's own words; for an invalid object they name the field."""
        self.retry_after = retry_after
        """Seconds the server asked to wait; ``None`` where it did not ask."""

    @property
    def refused(self) -> bool:
        """The server understood and will say the same again: the object is invalid, or admission forbids it."""
        return self.code in (400, 403, 422)

    @property
    def may_be_this_object(self) -> bool:
        """Whether writes of other objects may well pass: admission denies, or fails at, this one."""
        return self.code == 500 or (400 <= self.code < 500 and self.code not in (401, 404, 408, 409, 429))


class NotLeaderError(ClusterError):
    """A write was held back, because another replica may hold the Lease."""


class NameTakenError(ClusterError):
    """An object of the wanted name is there and is not ours to change."""
