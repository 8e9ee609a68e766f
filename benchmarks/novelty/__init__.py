"""How the novelty filter grows with the pool, beside comparing with everything."""
