"""What the shop's pages hear and ask live."""
