"""Every error meshnode raises on purpose, as one tree.

    MeshnodeError                            whose fault   HTTP  exit
    ├── RequestError                         caller         400    22
    │   ├── MalformedBody                    caller         400    22
    │   ├── InvalidField                     caller         400    22
    │   ├── UnknownField                     caller         400    22
    │   ├── UnsupportedParameter             caller         400    22
    │   ├── TemplateRefused                  caller         400    22
    │   ├── ContextLengthExceeded            caller         400    22
    │   ├── Unauthorized                     caller         401    22
    │   ├── PaymentRequired                  caller         402    22
    │   ├── Forbidden                        caller         403    22
    │   ├── NotFound                         caller         404    22
    │   │   └── ModelNotFound                caller         404    22
    │   ├── MethodNotAllowed                 caller         405    22
    │   ├── Conflict                         caller         409    22
    │   ├── BodyTooLarge                     caller         413    22
    │   ├── UnsupportedMediaType             caller         415    22
    │   ├── CapabilityUnavailable            caller         422    22
    │   └── RateLimited                      caller         429    22
    ├── ServingError                         node           503    23
    │   ├── InternalFault                    node           500    23
    │   ├── WorkerDied                       node           502    23
    │   ├── ModelLoading                     node           503    23
    │   ├── ModelFailed                      node           503    23
    │   ├── Overloaded                       node           503    23
    │   ├── NobodyServes                     node           503    23
    │   ├── Draining                         node           503    23
    │   ├── DeadlineExceeded                 node           504    23
    │   └── Cancelled                        caller         499   130
    ├── PeerError                            peer           502    24
    │   ├── Unreachable                      peer           502    24
    │   ├── ProtocolViolation                peer           502    24
    │   └── StreamReset                      peer           502    24
    └── OwnerError                           owner          500    10
        ├── ConfigError                      owner          500    10
        ├── UnsafeBind                       owner          500    11
        ├── PortInUse                        owner          500    12
        ├── HomeUnusable                     owner          500    13
        ├── HomeInUse                        owner          500    14
        ├── DamagedKey                       owner          500    15
        ├── DamagedDatabase                  owner          500    16
        ├── DiskFull                         owner          507    17
        ├── AcceleratorUnusable              owner          500    18
        ├── SourceFailed                     owner          502    19
        ├── ModelFileRefused                 owner          422    20
        └── NodeNotRunning                   owner          503     3

An error carries a message (what was wrong, with what value) and a hint (what to do). Doors translate
foreign exceptions into this tree by a literal table; nothing foreign crosses a room's border.
"""

from __future__ import annotations

from typing import ClassVar, Literal

Fault = Literal["caller", "owner", "node", "peer"]


class MeshnodeError(Exception):
    """Root of the tree.

    ``message`` says what was wrong, with what value; ``hint`` what to do about it; ``param`` names the
    request field at fault (dotted path); ``retry_after_s`` is set where trying again may help.
    """

    fault: ClassVar[Fault] = "node"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "internal_error"

    def __init__(
        self, message: str, *, hint: str = "", param: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.param = param
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class RequestError(MeshnodeError):
    """The request cannot be served as it was sent."""

    fault = "caller"
    status = 400
    exit_code = 22
    code = "invalid_request"


class MalformedBody(RequestError):
    """The body is not JSON, not UTF-8, too deep, or of the wrong shape."""

    code = "invalid_json"


class InvalidField(RequestError):
    """A field has the wrong type or a value out of range; the message names it and what is allowed."""

    code = "invalid_value"


class UnknownField(RequestError):
    """A field nobody documents."""

    code = "unknown_parameter"


class UnsupportedParameter(RequestError):
    """A documented field this node cannot honour and that would change the answer."""

    code = "unsupported_parameter"


class TemplateRefused(RequestError):
    """The model's own chat template refused the messages (for example: roles must alternate)."""

    code = "template_refused"


TOO_LONG = "the prompt is too long"
"""How a :class:`ContextLengthExceeded` begins: LangChain, litellm and coding agents know one by these words."""


class ContextLengthExceeded(RequestError):
    """The prompt and the tokens asked for do not fit the model's context; the message has both numbers."""

    code = "context_length_exceeded"


class Unauthorized(RequestError):
    """No key, or a wrong one."""

    status = 401
    code = "invalid_api_key"


class PaymentRequired(RequestError):
    """The caller owes for what it got, or has nothing left to pay with."""

    status = 402
    code = "insufficient_credits"


class Forbidden(RequestError):
    """Host, Origin, uid or scope does not allow this."""

    status = 403
    code = "forbidden"


class NotFound(RequestError):
    """No such path or object."""

    status = 404
    code = "not_found"


class ModelNotFound(NotFound):
    """No model of that name here or in the mesh; the hint lists the nearest names."""

    code = "model_not_found"


class MethodNotAllowed(RequestError):
    """The path exists, the method does not."""

    status = 405
    code = "method_not_allowed"


class Conflict(RequestError):
    """The object is in a state that does not allow this."""

    status = 409
    code = "conflict"


class BodyTooLarge(RequestError):
    """The body is larger than ``api.max_body``."""

    status = 413
    code = "body_too_large"


class UnsupportedMediaType(RequestError):
    """The content type is not one this endpoint takes."""

    status = 415
    code = "unsupported_media_type"


class CapabilityUnavailable(RequestError):
    """A privacy class or capability that nothing reachable can meet; never downgraded."""

    status = 422
    code = "capability_unavailable"


class RateLimited(RequestError):
    """The caller's own limit is reached."""

    status = 429
    code = "rate_limit_exceeded"


class ServingError(MeshnodeError):
    """The request was right; this node could not serve it."""

    status = 503
    exit_code = 23
    code = "server_error"


class InternalFault(ServingError):
    """A defect of meshnode. Says nothing internal; the log has the request id."""

    status = 500
    code = "internal_error"


class WorkerDied(ServingError):
    """The engine worker that was answering died."""

    status = 502
    code = "worker_died"


class ModelLoading(ServingError):
    """The model is on its way into memory; try again."""

    code = "model_loading"


class ModelFailed(ServingError):
    """The model cannot be loaded or was withdrawn; the message has the reason."""

    code = "model_failed"


class Overloaded(ServingError):
    """Queue, connections or memory are full."""

    code = "overloaded"


class NobodyServes(ServingError):
    """The model is known, but neither this node nor any peer can take the request now; the message says why not."""

    code = "no_provider"


class Draining(ServingError):
    """The node is stopping."""

    code = "draining"


class DeadlineExceeded(ServingError):
    """The request's deadline passed first."""

    status = 504
    code = "deadline_exceeded"


class Cancelled(ServingError):
    """The caller left or cancelled."""

    fault = "caller"
    status = 499
    exit_code = 130
    code = "cancelled"


class PeerError(MeshnodeError):
    """A peer failed or misbehaved."""

    fault = "peer"
    status = 502
    exit_code = 24
    code = "peer_failed"


class Unreachable(PeerError):
    """The peer cannot be dialled, or the connection was lost."""

    code = "peer_unreachable"


class ProtocolViolation(PeerError):
    """The peer sent what the protocol does not allow in this state."""

    code = "protocol_violation"


class StreamReset(PeerError):
    """The peer gave a stream up before its end."""

    code = "stream_reset"


class OwnerError(MeshnodeError):
    """Something on this machine that its owner can mend; ends a start with one line."""

    fault = "owner"
    status = 500
    exit_code = 10
    code = "owner_error"


class ConfigError(OwnerError):
    """A flag, environment variable or key of ``config.toml`` is unknown or out of range."""

    code = "config_error"


class UnsafeBind(OwnerError):
    """The API would listen off loopback without key and TLS."""

    exit_code = 11
    code = "unsafe_bind"


class PortInUse(OwnerError):
    """Another program listens there."""

    exit_code = 12
    code = "port_in_use"


class HomeUnusable(OwnerError):
    """The home cannot be made, read or written."""

    exit_code = 13
    code = "home_unusable"


class HomeInUse(OwnerError):
    """Another node runs on the same home."""

    exit_code = 14
    code = "home_in_use"


class DamagedKey(OwnerError):
    """A key file does not hold the key it should."""

    exit_code = 15
    code = "damaged_key"


class DamagedDatabase(OwnerError):
    """The database failed its check, or is from a newer version."""

    exit_code = 16
    code = "damaged_database"


class DiskFull(OwnerError):
    """No space is left where the home is."""

    status = 507
    exit_code = 17
    code = "disk_full"


class AcceleratorUnusable(OwnerError):
    """There is a GPU that the installed library cannot use, and ``--cpu`` was not given."""

    exit_code = 18
    code = "accelerator_unusable"


class SourceFailed(OwnerError):
    """A model could not be fetched: refused, broken off, or its hash differs."""

    status = 502
    exit_code = 19
    code = "source_failed"


class ModelFileRefused(OwnerError):
    """A model file is not a GGUF this node will load; the message has the reason."""

    status = 422
    exit_code = 20
    code = "model_file_refused"


class NodeNotRunning(OwnerError):
    """No node answers on this home's control socket."""

    status = 503
    exit_code = 3
    code = "node_not_running"
