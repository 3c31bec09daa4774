"""Accounts by name and password."""

from sqlalchemy import select
from werkzeug.security import check_password_hash, generate_password_hash

from models import User, db


def add_user(name: str, password: str, *, is_staff: bool = False) -> User:
    user = User(name=name, password_hash=generate_password_hash(password), is_staff=is_staff)
    db.add(user)
    db.commit()
    return user


def find_user(name: str, password: str) -> User | None:
    """Return the user of that name, if the password is theirs."""
    user = db.scalar(select(User).where(User.name == name))
    return user if user and check_password_hash(user.password_hash, password) else None
