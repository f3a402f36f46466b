"""The error a user can act on."""


class UserError(Exception):
    """A mistake in what the user gave: a file, a key, a value, a port.

    The message is one line that names the thing, the rule and the value received. The command line
    prints it on stderr without a stack trace and exits with `exit_code`.
    """

    exit_code = 1
