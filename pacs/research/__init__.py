"""The research database: projects, cohorts, releases, and what is taken from them."""
