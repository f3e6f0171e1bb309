"""Videos, from files and addresses: in order, upright, with times that only rise."""
