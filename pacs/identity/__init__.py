"""Who may come in: accounts with passwords, their sessions, and tokens for programs.

Nothing that lets anybody in is kept as it is given out: passwords as Argon2, cookies and tokens as digests.
"""

from dataclasses import dataclass

from pacs.database.base import Database
from pacs.identity.accounts import Accounts
from pacs.identity.logins import Logins
from pacs.identity.recognition import Recogniser
from pacs.identity.tokens import Tokens

__all__ = ["Identity", "build_identity"]


@dataclass(frozen=True, slots=True)
class Identity:
    """The services around accounts."""

    accounts: Accounts
    tokens: Tokens
    logins: Logins
    recogniser: Recogniser


def build_identity(database: Database) -> Identity:
    """Return the services over the accounts of one database."""
    return Identity(Accounts(database), Tokens(database), Logins(database), Recogniser(database))
