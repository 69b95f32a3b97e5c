"""The one exception that is meant for the person at the keyboard."""


class InputError(ValueError):
    """Something that was given cannot be used.

    The message says what was given, what is expected and what to do, in one line (a list of names may follow). Commands
    print it and leave with status 2.
    """
