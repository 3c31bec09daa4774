"""The keys that tokens are checked with: settings' text becomes a verifier, or a sentence that says why not.

`python -m mintflow_realtime.app.keys` checks those of the environment: gunicorn's master, which may import nothing of
cryptography, asks so before a worker starts.
"""

import sys

from mintflow_realtime.auth.tokens import TokenVerifier
from mintflow_realtime.settings.settings import SettingError, Settings


def verifier_of(settings: Settings) -> TokenVerifier:
    """Return the verifier of JWTs. Raises SettingError for a key that can't be read, or that doesn't fit."""
    try:
        return TokenVerifier(
            algorithms=settings.jwt_algorithms,
            secret=settings.jwt_secret,
            public_key=settings.jwt_public_key,
            issuer=settings.jwt_issuer,
            audience=settings.jwt_audience,
            max_lifetime=settings.jwt_max_lifetime,
        )
    except ValueError as error:
        # What a secret must be, the settings have seen to.
        raise SettingError("JWT_PUBLIC_KEY", f"can't be used: {str(error).rstrip('.')}") from None


if __name__ == "__main__":
    try:
        verifier_of(Settings.from_env())
    except SettingError as error:
        sys.exit(f"mintflow: {error}")
