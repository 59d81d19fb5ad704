"""Files that lie elsewhere: URLs, what is known of the file at one, and reading it by ranges."""
