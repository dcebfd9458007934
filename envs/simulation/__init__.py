"""Physics back ends behind one interface of tensor fields."""
