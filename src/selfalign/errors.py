"""Errors that a user can act on: shown as one clear line and the next command, without a traceback."""


class UserError(Exception):
    """Something the user asked for cannot be done.

    `message` says what is wrong, with the value; `hint` says what to do next (a command where there is one);
    `exit_code` is 2 for wrong usage (recipe, arguments, input files) and 1 for work that failed.
    """

    def __init__(self, message: str, hint: str = "", exit_code: int = 2) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code

    def __str__(self) -> str:
        return f"{self.message}\n  next: {self.hint}" if self.hint else self.message


class RunFailed(UserError):
    """A stage could not reach its goal. Everything accepted so far is kept; exit status 1."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint, exit_code=1)


class EngineFailed(RunFailed):
    """An engine cannot go on: a server is gone, logits are NaN, a worker does not come back."""
