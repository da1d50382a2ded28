"""The whole oracle on one machine: `make run` and `make demo`.

`__main__` reads the options, prepares the home and becomes `supervise`, which is supervisord. That
runs the `programs`; the first of them, `start`, sets up and then starts the others.
"""


class StackError(Exception):
    """The stack cannot start; the message is one line for the person at the terminal."""

    retryable = False
