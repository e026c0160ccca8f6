"""Customers for assistants: a server of the Model Context Protocol over `custsvc.client`."""
