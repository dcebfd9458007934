"""Tasks with a goal to reach: the Fetch robot's and the Shadow hand's, as Gymnasium-Robotics defines them."""
