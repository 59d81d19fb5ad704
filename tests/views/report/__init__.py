"""The report's page and its parts."""
