"""What can be wrong with an account, a token or a login. None says whether an account is there to who is not in yet."""

from pacs.errors import InvalidValue, NotFound, PacsError


class AccountNotFound(NotFound):
    """There is no such account."""


class AccountExists(PacsError):
    """There is or was an account of this name, and a name is never given twice; choose another."""


class TokenNotFound(NotFound):
    """There is no such token."""


class InvalidAccount(InvalidValue):
    """The account cannot be like this."""


class InvalidPassword(InvalidValue):
    """The password is too short, too long, or too easy to guess."""


class LoginFailed(PacsError):
    """Name or password is wrong."""


class LoginRequired(PacsError):
    """Log in first, or send a token."""


class TooManyAttempts(PacsError):
    """There were too many wrong passwords; wait a little and try again."""

    def __init__(self, seconds: int) -> None:
        super().__init__()
        self.seconds = seconds
