"""What differs between a developer's machine, the tests and production."""

import os
import secrets


class Config:
    SECRET_KEY = os.environ.get("SHOP_SECRET_KEY", "not-for-production")
    DATABASE_URL = os.environ.get("SHOP_DATABASE_URL", "sqlite:///shop.db")
    MINTFLOW_SOCKET_AUTH_REQUIRED = True
    SESSION_COOKIE_SAMESITE = "Lax"


class TestConfig(Config):
    MINTFLOW_JWT_SECRET = secrets.token_urlsafe(32)
    TESTING = True
