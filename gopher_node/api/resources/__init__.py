"""What the API answers at its addresses: a module for each resource."""
