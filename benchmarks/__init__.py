"""Commands that print the figures the README quotes: of the service, of training, and of exported graphs."""
