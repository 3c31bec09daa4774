"""The servers that are compared: the same namespace, the same events, one worker each."""
