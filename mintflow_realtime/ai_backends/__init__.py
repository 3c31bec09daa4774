"""Where answers come from: one small interface, and a module for each AI service. Knows the protocol at most."""
