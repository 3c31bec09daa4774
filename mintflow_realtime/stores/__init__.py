"""What is remembered, in Redis; Lua beside it."""
