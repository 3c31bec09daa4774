"""The pages of the shop."""

from routes.account import account
from routes.admin import admin
from routes.orders import orders
from routes.products import products

blueprints = (account, admin, orders, products)
