"""What adds to a weight: pairs of factors, products, matrices, and the deltas made of them."""
