"""What `make test` runs: stages of commands, second tries of the labs' tests, a deadline, and the table of seconds."""
