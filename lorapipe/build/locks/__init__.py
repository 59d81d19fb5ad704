"""What a lock says of a build: written, compared, held to."""
