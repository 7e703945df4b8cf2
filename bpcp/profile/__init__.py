"""A few image sets, measured before launch: what the whole run will take, here and elsewhere."""
