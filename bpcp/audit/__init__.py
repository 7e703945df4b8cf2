"""Whether a result adds up: what was asked for, what the chunks said, what is really there."""
