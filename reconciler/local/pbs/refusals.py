"""What PBS says no with: one exception that carries the message and the return code."""

PBSE_UNKNOWN_JOB = 15001
PBSE_UNDEFINED_ATTRIBUTE = 15002
PBSE_UNAUTHORIZED = 15007
PBSE_UNKNOWN_HOST = 15008
PBSE_NO_SERVER = 15010
PBSE_BAD_VALUE = 15014
PBSE_CANNOT_CHANGE = 15015
PBSE_BAD_STATE = 15016
PBSE_UNKNOWN_QUEUE = 15018
PBSE_QUEUE_DISABLED = 15021
PBSE_UNKNOWN_RESOURCE = 15035
PBSE_OVER_LIMITS = 15036
PBSE_FINISHED = 15139
PBSE_OVER_MAX_QUEUED = 15142


class Refusal(Exception):
    """A request that PBS turns down.

    Args:
        message: what stands on stderr after the command's name; "{id}" is replaced by the full job id.
        code: a PBSE number (its value modulo 256 is the return code) or a plain return code.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.message = message
        self.code = code & 0xFF


class Usage(Exception):
    """A command line that is not understood; `complaints` stand above the usage text, the return code is 2."""

    def __init__(self, *complaints: str) -> None:
        super().__init__(*complaints)
        self.complaints = complaints


class ServerUnreachable(Exception):
    """The spool can not be used now: it is missing, unreadable, or somebody has held its lock for too long."""


def unsupported(what: str) -> Refusal:
    """The refusal for what OpenPBS has and this subset leaves out: said plainly, never half done."""
    return Refusal(f"{what} is not supported by the embedded PBS", 2)
