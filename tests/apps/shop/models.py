"""What the shop remembers."""

from datetime import UTC, datetime

from sqlalchemy import ForeignKey, create_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    mapped_column,
    relationship,
    scoped_session,
    sessionmaker,
)

db = scoped_session(sessionmaker())


class Base(MappedAsDataclass, DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(init=False, primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]
    is_staff: Mapped[bool] = mapped_column(default=False)


class Product(Base):
    __tablename__ = "products"

    id: Mapped[int] = mapped_column(init=False, primary_key=True)
    name: Mapped[str]
    cents: Mapped[int]
    stock: Mapped[int]


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(init=False, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    quantity: Mapped[int]
    status: Mapped[str] = mapped_column(default="placed")
    placed_at: Mapped[datetime] = mapped_column(default_factory=lambda: datetime.now(UTC))
    user: Mapped[User] = relationship(init=False)
    product: Mapped[Product] = relationship(init=False)


def init_db(url: str) -> None:
    """Bind the sessions of this process to the database at `url`, and make its tables."""
    engine = create_engine(url)
    db.remove()
    db.configure(bind=engine)
    Base.metadata.create_all(engine)
