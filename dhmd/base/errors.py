"""The one error that a user is meant to read."""


class DhmdError(Exception):
    """Bad input or an impossible request, said in one sentence.

    The sentence names the file or key, what is wrong with it, and what to do. Command line and
    stages print it on one line and exit with 1; a traceback means a defect of ours.
    """


def first_line(error: BaseException) -> str:
    """The error's message on one line, or its class where it has none."""
    text = " ".join(str(error).split())
    return text or type(error).__name__
