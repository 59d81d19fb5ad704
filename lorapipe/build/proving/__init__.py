"""What was built, held against the lock and told to others: verified, attested, recovered, explained."""
