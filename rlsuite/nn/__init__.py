"""Network parts shared by the agents."""
