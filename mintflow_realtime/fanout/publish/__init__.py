"""From a change of state to its event in the log and on the channel, in one script."""
