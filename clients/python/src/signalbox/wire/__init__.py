"""How providers are spoken to, as data: HTTP requests are made of calls, and answers, streams and errors are read, by a
provider's configuration alone. What the configuration means stands in `wire.proto`; `tests/vectors/wire.json` of the
repository holds this to it.

Pure: nothing in here sends or opens anything, sees a key, or knows a provider's name.
"""

from .calls import Call, CallError, Message, OfferedTool, Problem, ToolCall
from .failures import Failure, read_failure
from .paths import MappingError
from .reading import Answer, MalformedError, TooLargeError, read_answer
from .rendering import Rendered, render
from .streams import CutOffError, Delta, StreamFailedError, StreamReader
from .waits import retry_after
from .words import without_keys

__all__ = [
    "Answer",
    "Call",
    "CallError",
    "CutOffError",
    "Delta",
    "Failure",
    "MalformedError",
    "MappingError",
    "Message",
    "OfferedTool",
    "Problem",
    "Rendered",
    "StreamFailedError",
    "StreamReader",
    "TooLargeError",
    "ToolCall",
    "read_answer",
    "read_failure",
    "render",
    "retry_after",
    "without_keys",
]
