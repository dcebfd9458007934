"""The painting studio: a page in a browser, served to this machine alone."""
