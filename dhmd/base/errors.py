"""The exception for errors that a user can correct."""


class DhmdError(Exception):
    """Invalid input or an impossible request, described in one sentence.

    The sentence names the file or key, what is wrong with it, and what to do. Commands and stages
    print it on one line and exit with status 1; a traceback indicates a bug in dhmd.
    """


def first_line(error: BaseException) -> str:
    """Return the message of an error on one line, or its class name if it has no message."""
    text = " ".join(str(error).split())
    return text or type(error).__name__
