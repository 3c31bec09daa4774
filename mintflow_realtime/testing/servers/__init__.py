"""Real servers for tests: gunicorn, Redis, their directories and ports, and what ends them."""
