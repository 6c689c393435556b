"""What the processes of the service say to each other. Imports nothing of the processes."""
