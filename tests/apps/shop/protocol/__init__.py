"""What goes in and out of the shop: forms, and objects in JSON."""
