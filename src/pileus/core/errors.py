"""What a request can be refused for; one place (a service's `problem` body) turns these into HTTP."""


class Problem(Exception):
    """A refusal with an HTTP status; the message names the field or thing and says what to do."""

    status = 500
    title = "Internal Server Error"

    def __init__(
        self, message: str, *, code: str = "", kind: str = "", headers: dict[str, str] | None = None, reason: str = ""
    ):
        super().__init__(message)
        self.message = message
        self.reason = reason  # for the audit trail, where the client must not be told
        self.code = code  # stable machine-readable code where the API has one (placement)
        self.kind = kind  # exception name where the API shows one (NeutronError.type)
        self.headers = headers or {}


class BadRequest(Problem):
    status, title = 400, "Bad Request"


class Unauthorized(Problem):
    status, title = 401, "Unauthorized"


class Forbidden(Problem):
    status, title = 403, "Forbidden"


class NotFound(Problem):
    status, title = 404, "Not Found"


class MethodNotAllowed(Problem):
    status, title = 405, "Method Not Allowed"


class NotAcceptable(Problem):
    status, title = 406, "Not Acceptable"


class RequestTimeout(Problem):
    status, title = 408, "Request Timeout"


class Conflicted(Problem):
    status, title = 409, "Conflict"


class Gone(Problem):
    status, title = 410, "Gone"


class LengthRequired(Problem):
    status, title = 411, "Length Required"


class PreconditionFailed(Problem):
    status, title = 412, "Precondition Failed"


class TooLarge(Problem):
    status, title = 413, "Request Entity Too Large"


class UnsupportedMediaType(Problem):
    status, title = 415, "Unsupported Media Type"


class RangeNotSatisfiable(Problem):
    status, title = 416, "Requested Range Not Satisfiable"


class TooManyRequests(Problem):
    status, title = 429, "Too Many Requests"


class NotImplementedHere(Problem):
    status, title = 501, "Not Implemented"


class ServiceUnavailable(Problem):
    status, title = 503, "Service Unavailable"


class OverQuota(Forbidden):
    """A limit of the project would be passed; services choose 403, 409 or 413 for it."""
