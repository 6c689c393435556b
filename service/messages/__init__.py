"""The messages between the processes of the service. This folder imports none of the others."""
